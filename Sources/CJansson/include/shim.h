#ifndef SEEDREAM_CJANSSON_SHIM_H
#define SEEDREAM_CJANSSON_SHIM_H

#include <jansson.h>

/* `json_typeof` is a macro. */
static inline json_type seedream_json_type(const json_t *json) { return json_typeof(json); }

/* `json_error_code` reads the code that Jansson hides in the last byte of the text. */
static inline int seedream_json_error_code(const json_error_t *error) { return (int)json_error_code(error); }

/* `json_loadb`, with all that it allocates in one piece of memory of this thread. The tree is valid until
 * `seedream_json_end`, on the same thread, which must follow also where this gives NULL; it must not be given to
 * `json_decref`. Not to be nested. */
json_t *seedream_json_begin(const void *text, size_t length, size_t flags, json_error_t *error);

/* Gives back all memory since `seedream_json_begin`. */
void seedream_json_end(void);

#endif
