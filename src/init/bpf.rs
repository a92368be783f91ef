//! An assembler for classic BPF, as seccomp(2) takes it: lines with labels become instructions.
//! No system calls.

use nix::libc;

use self::Line::{And, JumpIf, JumpUnless, Label, Load, Return};

/// One instruction: code, jump if true, jump if false, constant.
pub type Instruction = libc::sock_filter;

pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
pub const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A line of a filter's source.
pub enum Line {
    Load(u32),
    And(u32),
    Return(u32),
    /// Jumps to the next [`Line::Label`] of that name if the test holds.
    JumpIf(u16, u32, &'static str),
    /// Jumps to the next [`Line::Label`] of that name unless the test holds.
    JumpUnless(u16, u32, &'static str),
    /// A jump target. Produces no instruction.
    Label(&'static str),
}

/// Resolves the labels. A name may occur several times, because BPF only jumps forward and a jump
/// goes to the next occurrence.
#[must_use]
pub fn assemble(lines: &[Line]) -> Vec<Instruction> {
    let instruction = |code, k, jt, jf| Some(Instruction { code, jt, jf, k });
    let resolve = |(at, line): (usize, &Line)| match *line {
        Load(offset) => instruction(LOAD, offset, 0, 0),
        And(mask) => instruction(MASK, mask, 0, 0),
        Return(action) => instruction(RETURN, action, 0, 0),
        JumpIf(test, k, label) => instruction(test, k, distance(lines, at, label), 0),
        JumpUnless(test, k, label) => instruction(test, k, 0, distance(lines, at, label)),
        Label(_) => None,
    };
    lines.iter().enumerate().filter_map(resolve).collect()
}

/// How many instructions a jump at `at` skips. Cases are short, far below the maximum of 255.
fn distance(lines: &[Line], at: usize, label: &str) -> u8 {
    let rest = lines.get(at + 1..).unwrap_or_default().iter();
    let skipped = rest.take_while(|line| !matches!(line, Label(name) if *name == label));
    u8::try_from(skipped.filter(|line| !matches!(line, Label(_))).count()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_goes_to_the_next_label_of_its_name() {
        let lines = [
            JumpIf(IF_EQUAL, 1, "a"),
            Return(10),
            Label("b"),
            Label("a"),
            JumpUnless(IF_EQUAL, 2, "a"),
            Return(20),
            Return(21),
            Label("a"),
            Return(30),
        ];
        let jumps: Vec<_> = assemble(&lines).iter().map(|i| (i.jt, i.jf)).collect();
        assert_eq!(jumps, [(1, 0), (0, 0), (0, 2), (0, 0), (0, 0), (0, 0)]);
    }
}
