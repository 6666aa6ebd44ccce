#ifndef SEEDREAM_CALLOCATOR_H
#define SEEDREAM_CALLOCATOR_H

/* Nothing to call: see allocator.c. */

#endif
