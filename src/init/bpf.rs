//! An assembler for classic BPF, as seccomp(2) takes it: lines with labels become instructions, and
//! cases by number become a tree of comparisons. No system calls.

use std::collections::BTreeMap;

use nix::libc;

use self::Line::{And, JumpIf, JumpUnless, Label, Load, Return};

/// One instruction: code, jump if true, jump if false, constant.
pub type Instruction = libc::sock_filter;

pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
pub const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
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

/// Decides by the number that is loaded, with about log2(cases) comparisons: when a filter is
/// installed, the kernel runs it for each call that it could allow. Other numbers get `otherwise`.
/// Every path through a case must return.
#[must_use]
pub fn by_number(cases: &BTreeMap<u32, Vec<Line>>, otherwise: u32) -> Vec<Instruction> {
    let rest = || assemble(&[Return(otherwise)]);
    let mut ranges = vec![(0, rest())];
    for (number, case) in cases {
        ranges.push((*number, assemble(case)));
        ranges.push((number + 1, rest()));
    }
    // a range that is empty, because the next one begins with the same number
    let mut begins = ranges.iter().map(|(begin, _)| *begin).skip(1).collect::<Vec<_>>().into_iter();
    ranges.retain(|(begin, _)| begins.next() != Some(*begin));
    ranges.dedup_by(|next, last| next.1 == last.1);
    tree(&ranges)
}

/// The ranges of numbers, each with its first number and its instructions.
fn tree(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let Some((begin, instructions)) = from.first() else { return Vec::new() };
    if below.is_empty() {
        return instructions.clone();
    }
    let (below, from) = (tree(below), tree(from));
    let compare = |jt, jf| Instruction { code: IF_AT_LEAST, jt, jf, k: *begin };
    let mut all = match u8::try_from(below.len()) {
        Ok(skip) => vec![compare(skip, 0)],
        // a conditional jump skips 255 instructions at most
        Err(_) => vec![compare(0, 1), Instruction { code: JUMP, jt: 0, jf: 0, k: below.len() as u32 }],
    };
    all.extend(below);
    all.extend(from);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The action for a number, with instructions of [`by_number`] whose cases only return.
    fn action(program: &[Instruction], number: u32) -> u32 {
        let mut at = 0;
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1 + match code {
                RETURN => return k,
                JUMP => k as usize,
                _ => usize::from(if number >= k { jt } else { jf }),
            };
        }
    }

    #[test]
    fn cases_are_found_by_number_however_many_there_are() {
        for step in [1, 2, 3, 7] {
            let numbers = (0..500u32).filter(|number| number % step == 0 && number % 5 != 1);
            let cases: BTreeMap<u32, Vec<Line>> =
                numbers.map(|number| (number, vec![Return(1000 + number / 2)])).collect();
            let program = by_number(&cases, 7);
            for number in 0..600 {
                let expected = if cases.contains_key(&number) { 1000 + number / 2 } else { 7 };
                assert_eq!(action(&program, number), expected, "{number} of every {step}");
            }
        }
        assert_eq!(action(&by_number(&BTreeMap::new(), 7), 3), 7);
    }

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
