#include "allocator.h"

/* How jemalloc, with which the release build is linked, is to work for one busy thread and a few quiet ones; it looks for
 * this symbol. MALLOC_CONF in the environment still has the last word.
 *
 * One arena: memory that one thread allocates and another frees is found again. Thread caches up to 8 KiB: a job's body and
 * the buffers of its connection; at most 8 pieces of a size. Unused pages go back to the system after 0.3 seconds instead of
 * ten; giving them back at once would cost a fifth of a job's CPU time. A thread of the allocator's own does it: a worker
 * that has nothing to do allocates nothing, and would keep them.
 * Source: jemalloc(3), "TUNING". */
const char *malloc_conf =
    "narenas:1,lg_tcache_max:13,tcache_nslots_small_max:8,dirty_decay_ms:300,muzzy_decay_ms:0,background_thread:true";
