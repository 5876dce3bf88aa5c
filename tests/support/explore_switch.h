/* How the explorer's coroutines switch stacks, on the processors that it knows. Included once, by
 * explore_world.c. */
#ifndef KILN_TEST_EXPLORE_SWITCH_H
#define KILN_TEST_EXPLORE_SWITCH_H

#include "sanitized.h"

/* Pushes what a call must preserve, leaves the stack pointer in *save, and goes on where `load` was left. */
void explore__switch(void **save, void *load);

#define NAME_(prefix, name) #prefix #name
#define NAME(prefix, name)  NAME_(prefix, name)
#define SWITCH              NAME(__USER_LABEL_PREFIX__, explore__switch)

#if defined(__x86_64__) && !defined(SANITIZED)
__asm__(".text\n.globl " SWITCH "\n" SWITCH ":\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
enum { SAVED_WORDS = 8, RETURN_AT = 6 }; /* six registers, where to return to, and one for the alignment */
#elif defined(__aarch64__) && !defined(SANITIZED)
__asm__(".text\n.globl " SWITCH "\n.p2align 2\n" SWITCH ":\n"
        "sub sp, sp, #160\n"
        "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\nstp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\n"
        "stp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
        "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
        "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
        "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\nldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\n"
        "ldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
        "add sp, sp, #160\nret\n");
enum { SAVED_WORDS = 20, RETURN_AT = 11 };
#else
#define NO_SWITCH 1
enum { SAVED_WORDS = 1, RETURN_AT = 0 };
void explore__switch(void **save, void *load) {
    (void)save;
    (void)load;
}
#endif

#endif
