#ifndef SEEDREAM_CSQLITE_SHIM_H
#define SEEDREAM_CSQLITE_SHIM_H

#include <sqlite3.h>

/* `SQLITE_TRANSIENT` is a cast of -1 to a function pointer, which Swift does not import; these two have SQLite copy the
 * bytes, so that no pointer outlives the call. */
static inline int seedream_sqlite3_bind_text(sqlite3_stmt *statement, int index, const char *text, int length) {
    return sqlite3_bind_text(statement, index, text, length, SQLITE_TRANSIENT);
}

static inline int seedream_sqlite3_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int length) {
    return sqlite3_bind_blob(statement, index, bytes, length, SQLITE_TRANSIENT);
}

#endif
