#ifndef SEEDREAM_CLINUX_SHIM_H
#define SEEDREAM_CLINUX_SHIM_H

#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Declared only under `_GNU_SOURCE`, which the importer does not define. */
extern int pthread_setname_np(pthread_t thread, const char *name);

#endif
