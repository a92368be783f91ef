//! Machine code for templates, where their own language cannot do it: the fork into a cell, a list
//! of system calls at once, and a detour around a function.
//!
//! # The fork into a cell
//!
//! A process can enter a PID namespace only by its children, and its child gets the PID 1 inside
//! for its parent only if the one that forked it is inside too. So two processes are needed in
//! between. As copies of the template each would cost as much as the program itself; here they
//! share the template's memory, on a stack of their own, while the template waits (vfork(2)).
//! That cannot be written in the template's language.
//!
//! ```text
//!  template -- vfork --> first: oom score, setns for each namespace
//!     |                    '-- vfork --> second, inside: fork() of the C library
//!     |                                    '--> the new process, on the template's stack
//!     '- goes on when both have exited          returns 0 to the template's code
//! ```
//!
//! The template gets the code as bytes, because it runs another program's file. It refers to
//! nothing outside of itself and the structure that it is passed:
//!
//! ```text
//!  offset  0  address of fork(3)      24  out: errno of a step that failed, negative
//!          8  top of a spare stack    32  out: pid of the new process, inside
//!         16  (stack pointer)         40  number of namespaces, then a descriptor for each
//! ```
#![allow(unsafe_code)]

/// Bytes of the spare stack that each of the two processes in between has.
pub const STACK_BYTES: usize = 0x20000;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .rodata.assay_crossing, \"a\"",
    ".globl assay_cross_begin, assay_cross_end, assay_steps_begin, assay_steps_end",
    ".globl assay_detour_begin, assay_detour_end",
    "assay_cross_begin:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rbx, rdi",
    "mov [rbx + 16], rsp",
    // the first process: clone(CLONE_VM | CLONE_VFORK | SIGCHLD, stack)
    "mov rsi, [rbx + 8]",
    "mov edi, 0x4111",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jz 3f",
    "2:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "3:",
    // prctl(PR_SET_DUMPABLE, 1): else its /proc/self belongs to root
    "mov edi, 4",
    "mov esi, 1",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 157",
    "syscall",
    // open(O_WRONLY | O_CLOEXEC), write, close
    "lea rdi, [rip + 8f]",
    "mov esi, 0x80001",
    "xor edx, edx",
    "mov eax, 2",
    "syscall",
    "test rax, rax",
    "js 7f",
    "mov r12, rax",
    "mov edi, r12d",
    "lea rsi, [rip + 9f]",
    "mov edx, 4",
    "mov eax, 1",
    "syscall",
    "test rax, rax",
    "js 7f",
    "mov edi, r12d",
    "mov eax, 3",
    "syscall",
    // setns
    "xor r13d, r13d",
    "4:",
    "cmp r13, [rbx + 40]",
    "jae 5f",
    "mov edi, [rbx + 48 + r13 * 8]",
    "xor esi, esi",
    "mov eax, 308",
    "syscall",
    "test rax, rax",
    "js 7f",
    "inc r13",
    "jmp 4b",
    "5:",
    // the second process
    "mov rsi, [rbx + 8]",
    "sub rsi, {stack}",
    "mov edi, 0x4111",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jz 6f",
    "js 7f",
    // wait4(pid, 0, __WALL, 0), exit_group(0)
    "mov rdi, rax",
    "xor esi, esi",
    "mov edx, 0x40000000",
    "xor r10d, r10d",
    "mov eax, 61",
    "syscall",
    "xor edi, edi",
    "mov eax, 231",
    "syscall",
    "6:",
    "call [rbx]",
    "test eax, eax",
    "jz 10f",
    "movsxd rax, eax",
    "mov [rbx + 32], rax",
    "xor edi, edi",
    "mov eax, 231",
    "syscall",
    "10:",
    "mov rsp, [rbx + 16]",
    "xor eax, eax",
    "jmp 2b",
    "7:",
    "mov [rbx + 24], rax",
    "mov edi, 1",
    "mov eax, 231",
    "syscall",
    "8:",
    ".asciz \"/proc/self/oom_score_adj\"",
    "9:",
    ".ascii \"1000\"",
    "assay_cross_end:",
    "assay_steps_begin:",
    "push rbx",
    "push r12",
    "mov rbx, rdi",
    "2:",
    "mov r12, [rbx]",
    "cmp r12, -1",
    "je 4f",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "xor r9d, r9d",
    "mov eax, r12d",
    "syscall",
    "test rax, rax",
    "jns 3f",
    "bt r12, 32",
    "jnc 5f",
    "3:",
    "add rbx, 48",
    "jmp 2b",
    "4:",
    "xor eax, eax",
    "5:",
    "pop r12",
    "pop rbx",
    "ret",
    "assay_steps_end:",
    // stands in for a function that it can put back: words follow the code
    "assay_detour_begin:",
    "push rbx",
    "push rdi",
    "sub rsp, 8",
    "lea rbx, [rip + assay_detour_end + 40]",
    "2:",
    "mov rax, [rbx]",
    "test rax, rax",
    "jz 3f",
    "call rax",
    "cmp rax, [rip + assay_detour_end]",
    "jne 4f",
    "add rbx, 8",
    "jmp 2b",
    "3:",
    "call [rip + assay_detour_end + 8]",
    "test eax, eax",
    "jnz 4f",
    "add rsp, 8",
    "pop rdi",
    "pop rbx",
    "ret",
    "4:",
    "add rsp, 8",
    "pop rdi",
    "pop rbx",
    "mov rdx, [rip + assay_detour_end + 16]",
    "mov rax, [rip + assay_detour_end + 24]",
    "mov [rdx], rax",
    "mov rax, [rip + assay_detour_end + 32]",
    "mov [rdx + 8], rax",
    "jmp rdx",
    ".balign 8",
    "assay_detour_end:",
    ".popsection",
    stack = const STACK_BYTES,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .rodata.assay_crossing, \"a\"",
    ".balign 4",
    ".globl assay_cross_begin, assay_cross_end, assay_steps_begin, assay_steps_end",
    ".globl assay_detour_begin, assay_detour_end",
    "assay_cross_begin:",
    "stp x29, x30, [sp, #-64]!",
    "stp x19, x20, [sp, #16]",
    "stp x21, x22, [sp, #32]",
    "mov x19, x0",
    "mov x9, sp",
    "str x9, [x19, #16]",
    // the first process: clone(CLONE_VM | CLONE_VFORK | SIGCHLD, stack)
    "ldr x1, [x19, #8]",
    "mov x0, #0x4111",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x8, #220",
    "svc #0",
    "cbz x0, 3f",
    "2:",
    "ldp x19, x20, [sp, #16]",
    "ldp x21, x22, [sp, #32]",
    "ldp x29, x30, [sp], #64",
    "ret",
    "3:",
    // prctl(PR_SET_DUMPABLE, 1): else its /proc/self belongs to root
    "mov x0, #4",
    "mov x1, #1",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x8, #167",
    "svc #0",
    // openat(AT_FDCWD, O_WRONLY | O_CLOEXEC), write, close
    "mov x0, #-100",
    "adr x1, 8f",
    "mov x2, #1",
    "movk x2, #8, lsl #16",
    "mov x3, xzr",
    "mov x8, #56",
    "svc #0",
    "tbnz x0, #63, 7f",
    "mov x20, x0",
    "adr x1, 9f",
    "mov x2, #4",
    "mov x8, #64",
    "svc #0",
    "tbnz x0, #63, 7f",
    "mov x0, x20",
    "mov x8, #57",
    "svc #0",
    // setns
    "mov x21, xzr",
    "add x22, x19, #48",
    "4:",
    "ldr x9, [x19, #40]",
    "cmp x21, x9",
    "b.hs 5f",
    "ldr x0, [x22, x21, lsl #3]",
    "mov x1, xzr",
    "mov x8, #268",
    "svc #0",
    "tbnz x0, #63, 7f",
    "add x21, x21, #1",
    "b 4b",
    "5:",
    // the second process
    "ldr x1, [x19, #8]",
    "sub x1, x1, #{stack_pages}, lsl #12",
    "mov x0, #0x4111",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x8, #220",
    "svc #0",
    "cbz x0, 6f",
    "tbnz x0, #63, 7f",
    // wait4(pid, 0, __WALL, 0), exit_group(0)
    "mov x1, xzr",
    "mov x2, #0x40000000",
    "mov x3, xzr",
    "mov x8, #260",
    "svc #0",
    "mov x0, xzr",
    "mov x8, #94",
    "svc #0",
    "6:",
    "ldr x9, [x19]",
    "blr x9",
    "cbz w0, 10f",
    "sxtw x0, w0",
    "str x0, [x19, #32]",
    "mov x0, xzr",
    "mov x8, #94",
    "svc #0",
    "10:",
    "ldr x9, [x19, #16]",
    "mov sp, x9",
    "mov x0, xzr",
    "b 2b",
    "7:",
    "str x0, [x19, #24]",
    "mov x0, #1",
    "mov x8, #94",
    "svc #0",
    "8:",
    ".asciz \"/proc/self/oom_score_adj\"",
    "9:",
    ".ascii \"1000\"",
    "assay_cross_end:",
    ".balign 4",
    "assay_steps_begin:",
    "mov x9, x0",
    "2:",
    "ldr x10, [x9]",
    "cmn x10, #1",
    "b.eq 4f",
    "ldp x0, x1, [x9, #8]",
    "ldp x2, x3, [x9, #24]",
    "ldr x4, [x9, #40]",
    "mov x5, xzr",
    "mov w8, w10",
    "svc #0",
    "tbz x0, #63, 3f",
    "tbz x10, #32, 5f",
    "3:",
    "add x9, x9, #48",
    "b 2b",
    "4:",
    "mov x0, xzr",
    "5:",
    "ret",
    "assay_steps_end:",
    // none: an instruction cache would have to be cleared
    "assay_detour_begin:",
    "assay_detour_end:",
    ".popsection",
    stack_pages = const STACK_BYTES / 4096,
);

unsafe extern "C" {
    static assay_cross_begin: u8;
    static assay_cross_end: u8;
    static assay_steps_begin: u8;
    static assay_steps_end: u8;
    static assay_detour_begin: u8;
    static assay_detour_end: u8;
}

/// The bytes between two labels.
fn between(begin: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: both labels are in one section, in this order, and nothing writes there.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// The code that forks into a cell. Takes the structure above; returns 0 in the new process, the
/// pid of the first process in between otherwise, or a negative errno.
#[must_use]
pub fn crossing_code() -> &'static [u8] {
    between(&raw const assay_cross_begin, &raw const assay_cross_end)
}

/// The code that makes a list of system calls: for each its number and five arguments, 8 bytes
/// each, ended by the number -1. Returns 0, or the negative errno of the first one that failed; the
/// failure of one whose number has bit 32 set is ignored.
#[must_use]
pub fn steps_code() -> &'static [u8] {
    between(&raw const assay_steps_begin, &raw const assay_steps_end)
}

/// The code of a detour: what a jump at the beginning of a function leads to. After the code it
/// needs five words, then callbacks and a word that is 0. The five are what each callback must
/// return, a last callback that must return 0 then, the function, and the 16 bytes that it begins
/// with. If all do, the function has returned 0; otherwise the 16 bytes are put back, and the
/// function is entered. Empty where there is none.
#[must_use]
pub fn detour_code() -> &'static [u8] {
    between(&raw const assay_detour_begin, &raw const assay_detour_end)
}
