/* SANITIZED is defined when the address or the thread sanitizer is compiled in: gcc and clang say so differently. */
#ifndef KILN_TEST_SANITIZED_H
#define KILN_TEST_SANITIZED_H

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#endif
