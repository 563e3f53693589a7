/* err: numbers of errors in words. Functions return 0 or a count, else -errno; errno itself crosses no function. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* "ENOENT" for 2 and -2; "E123" for a number that has no name. */
const char *err_name(int error);
/* "No such file or directory" for 2 and -2. Safe from any thread. */
const char *err_text(int error);

#endif
