#ifndef SEEDREAM_CJANSSON_SHIM_H
#define SEEDREAM_CJANSSON_SHIM_H

#include <jansson.h>

/* `json_decref` and `json_incref` are inline functions over macros whose atomics Swift cannot import on every
 * compiler; these give it plain functions. */
static inline void seedream_json_release(json_t *json) { json_decref(json); }

/* `json_typeof` is a macro. */
static inline json_type seedream_json_type(const json_t *json) { return json_typeof(json); }

/* `json_error_code` reads the code that Jansson hides in the last byte of the text. */
static inline int seedream_json_error_code(const json_error_t *error) { return (int)json_error_code(error); }

#endif
