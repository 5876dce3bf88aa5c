/* XXH3 (xxHash), compiled into the files that include this: no symbol of xxHash is imported, so a host that
 * brings another version does not replace it, and none is exported. Internal. */
#ifndef KILN_HASH_H
#define KILN_HASH_H

/* The warnings of what follows are not Kiln's, wherever the package lies. */
#pragma GCC system_header
/* Bytes are read by memcpy. xxHash 0.8.3 else reads them as integers that may alias nothing: inlined after
 * a store of another type, GCC 14 hashes what was there before the store. */
#define XXH_FORCE_MEMORY_ACCESS 0
#define XXH_INLINE_ALL
#include <xxhash.h>

#endif
