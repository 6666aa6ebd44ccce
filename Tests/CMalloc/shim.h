#ifndef SEEDREAM_CMALLOC_SHIM_H
#define SEEDREAM_CMALLOC_SHIM_H

/* `mallinfo2`, which Swift's Glibc module leaves out: how much memory C code holds, for tests that look for leaks. */
#include <malloc.h>

#endif
