#include <criterion/criterion.h>
#include <string.h>

#include "mount/helper.h"

Test(helper, options_of_fstab_become_those_of_a_mount)
{
    static const struct {
        const char *said;
        bool sloppy;
        const char *options, *dropped;
        enum helper_remount remount;
    } rows[] = {
        {"", false, "", "", HELPER_NO_REMOUNT},
        {"rw,_netdev,nofail,endpoint=http://h:1", false, "rw,_netdev,nofail,endpoint=http://h:1", "",
         HELPER_NO_REMOUNT},
        {"ro,a\\,b=c\\\\d,x", false, "ro,a\\,b=c\\\\d,x", "", HELPER_NO_REMOUNT},
        {"ro,colour=red,x-systemd.automount", true, "ro,x-systemd.automount", "colour", HELPER_NO_REMOUNT},
        {"secret_key=x,odd", true, "secret_key=x", "odd", HELPER_NO_REMOUNT},
        {"rw,remount,user_id=0,group_id=0,fd=7,rootmode=40000", false, "rw", "", HELPER_REMOUNT_RW},
        {"rw,remount,ro", false, "rw,ro", "", HELPER_REMOUNT_RO},
        {"remount", false, "", "", HELPER_REMOUNT_AS_IT_IS},
        {",,ro,,", false, "ro", "", HELPER_NO_REMOUNT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED options = BUF_INIT;
        BUF_SCOPED dropped = BUF_INIT;
        cr_expect_eq(helper_options(rows[i].said, rows[i].sloppy, &options, &dropped), rows[i].remount, "%s",
                     rows[i].said);
        cr_expect_str_eq(options.bytes, rows[i].options);
        cr_expect_str_eq(dropped.bytes, rows[i].dropped);
    }
}
