/* ledger_text: the whole state of a ledger as text, one line per account in the order of ids: equal states, equal texts. */
#ifndef TESTS_SUPPORT_LEDGER_TEXT_H
#define TESTS_SUPPORT_LEDGER_TEXT_H

#include "cache/ledger.h"

void ledger_text(const struct ledger *ledger, struct buf *out);
/* CRC32C of the text, without source and next_id. */
uint32_t ledger_sum(const struct ledger *ledger);

#endif
