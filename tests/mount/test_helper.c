#include <criterion/criterion.h>

#include "mount/helper.h"

static struct buf options = BUF_INIT, dropped = BUF_INIT;

static void end(void)
{
    buf_release(&options);
    buf_release(&dropped);
}

TestSuite(helper, .fini = end);

Test(helper, what_fstab_says_is_sorted)
{
    static const struct {
        char list[96];
        bool sloppy;
        enum remount remount;
        char options[96], dropped[32];
    } rows[] = {
        {"", false, REMOUNT_NOT, "", ""},
        {",,", false, REMOUNT_NOT, "", ""},
        {"rw,_netdev,nofail", false, REMOUNT_NOT, "rw,_netdev,nofail", ""},
        {"ro,user_id=0,group_id=0,fd=3,max_read=1,subtype=x", false, REMOUNT_NOT, "ro", ""},
        {"colour=red,ro", false, REMOUNT_NOT, "colour=red,ro", ""},
        {"colour=red,ro,x-a=b,shape", true, REMOUNT_NOT, "ro,x-a=b", "colour, shape"},
        {"secret_key=x", true, REMOUNT_NOT, "secret_key=x", ""}, /* to be refused */
        {"remount", false, REMOUNT_AS_IT_IS, "", ""},
        {"ro,remount", false, REMOUNT_RO, "ro", ""},
        {"remount,ro,rw", false, REMOUNT_RW, "ro,rw", ""},
        {"remount,rw,ro", false, REMOUNT_RO, "rw,ro", ""},
        {"cache_dir=/a\\,remount,b\\\\", false, REMOUNT_NOT, "cache_dir=/a\\,remount,b\\\\", ""},
        {"a\\", true, REMOUNT_NOT, "", "a\\"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_reset(&options);
        buf_reset(&dropped);
        cr_expect_eq(helper_options(rows[i].list, rows[i].sloppy, &options, &dropped), rows[i].remount, "%s",
                     rows[i].list);
        cr_expect_str_eq(options.bytes, rows[i].options);
        cr_expect_str_eq(dropped.bytes, rows[i].dropped);
    }
}
