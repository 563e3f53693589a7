#include "s3/ini.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct ini *parse(const char *text)
{
    struct ini *ini = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(ini_parse(text, strlen(text), "F", &ini, &why), 0, "%s", why.bytes);
    return ini;
}

Test(ini, reads_files_of_aws)
{
    struct ini *ini = parse("\xEF\xBB\xBF# comment\n"
                            "; comment\n"
                            "[default]\r\n"
                            "AWS_Access_Key_Id=AKID\r\n"
                            "aws_secret_access_key =  a=b#c;d  \n"
                            "region = eu-west-1 # there\n"
                            "empty =\n"
                            "\n"
                            "[profile   \"dev\"] ; note\n"
                            "s3 =\n"
                            "  addressing_style = path\n"
                            "\t# comment in the block\n"
                            "  max = 5\n"
                            "region = one\n"
                            "[profile dev]\n"
                            "region = two");
    cr_expect_str_eq(ini_get(ini, "default", "aws_access_key_id"), "AKID");
    cr_expect_str_eq(ini_get(ini, "default", "aws_secret_access_key"), "a=b#c;d",
                     "a secret may hold # and =");
    cr_expect_str_eq(ini_get(ini, "default", "region"), "eu-west-1");
    cr_expect_null(ini_get(ini, "default", "empty"));
    cr_expect_null(ini_get(ini, "default", "nothing"));
    cr_expect_null(ini_get(ini, "nowhere", "region"));
    cr_expect_str_eq(ini_get(ini, "profile dev", "s3.addressing_style"), "path");
    cr_expect_str_eq(ini_get(ini, "profile dev", "s3.max"), "5");
    cr_expect_null(ini_get(ini, "profile dev", "addressing_style"));
    cr_expect_str_eq(ini_get(ini, "profile dev", "region"), "two", "a later value wins");
    cr_expect(ini_has_section(ini, "profile dev") && !ini_has_section(ini, "dev") &&
              !ini_has_section(NULL, "dev"));
    ini_free(ini);
    ini_free(parse(""));
}

Test(ini, indented_pairs_are_pairs_where_no_block_is_open)
{
    struct ini *ini = parse("[default]\n"
                            "    aws_access_key_id = A\n"
                            "    aws_session_token =\n"
                            "    region = one\n"
                            "    s3 =\n"
                            "        max = 5\n"
                            "\toutput = text\n"
                            "k = v\n"
                            "  l = w\n");
    static const char *const rows[][2] = {{"aws_access_key_id", "A"}, {"region", "one"}, {"s3.max", "5"},
                                          {"output", "text"},         {"k", "v"},        {"l", "w"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const char *value = ini_get(ini, "default", rows[i][0]);
        cr_expect(value && !strcmp(value, rows[i][1]), "%s", rows[i][0]);
    }
    ini_free(ini);
}

Test(ini, says_where_a_file_is_wrong_and_quotes_nothing_of_it)
{
    static const struct {
        const char *text, *where;
    } rows[] = {
        {"\n[default\nsecret=1", "F:2:"}, {"[a]\nhunter2\n", "F:2:"}, {"hunter2 = 1\n", "F:1:"},
        {"[a]\n\n = hunter2\n", "F:3:"},  {"[a] hunter2\n", "F:1:"},  {"[ ]\n", "F:1:"},
        {"[a]\n  hunter2\n", "F:2:"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct ini *ini = NULL;
        BUF_SCOPED why = BUF_INIT;
        cr_expect_eq(ini_parse(rows[i].text, strlen(rows[i].text), "F", &ini, &why), -EBADMSG, "%s",
                     rows[i].text);
        cr_expect(!strncmp(why.bytes, rows[i].where, 4), "%s", why.bytes);
        cr_expect(!strstr(why.bytes, "hunter2"), "%s", why.bytes);
        cr_expect_null(ini);
    }
}

Test(ini, what_is_no_text_or_too_large_is_refused)
{
    struct ini *ini = NULL;
    cr_expect_eq(ini_parse("[a]\0", 4, "F", &ini, NULL), -EBADMSG);
    char *large = xmalloc(INI_BYTES_MAX + 1);
    memset(large, '\n', INI_BYTES_MAX + 1);
    cr_expect_eq(ini_parse(large, INI_BYTES_MAX + 1, "F", &ini, NULL), -EBADMSG);
    cr_assert_eq(ini_parse(large, INI_BYTES_MAX, "F", &ini, NULL), 0);
    ini_free(ini);
    free_string(&large);
}
