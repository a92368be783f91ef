//! Patterns of submissions.yaml: `*` within a name, and alternatives in braces.

/// Most patterns that braces may stand for.
const MAX_ALTERNATIVES: usize = 4096;

/// The patterns without braces that a pattern stands for; `None` if there are too many.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut open = vec![pattern.to_owned()];
    let mut done = Vec::new();
    while let Some(next) = open.pop() {
        if open.len() + done.len() > MAX_ALTERNATIVES {
            return None;
        }
        let braces = next.find('{').and_then(|start| Some((start, start + next[start..].find('}')?)));
        match braces {
            None => done.push(next),
            Some((start, end)) => {
                let (before, after) = (&next[..start], &next[end + 1..]);
                let choices = next[start + 1..end].split(',').map(|choice| format!("{before}{}{after}", choice.trim()));
                open.extend(choices);
            }
        }
    }
    Some(done)
}

/// Whether the pattern matches the path, or a folder that it is in.
pub(crate) fn covers(pattern: &str, path: &str) -> bool {
    let patterns = alternatives(pattern).unwrap_or_default();
    let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    ends.push(path.len());
    patterns.iter().any(|pattern| ends.iter().any(|end| matches(pattern.as_bytes(), &path.as_bytes()[..*end])))
}

/// Whether the pattern matches the path itself.
pub(crate) fn matches_all(pattern: &str, path: &str) -> bool {
    let patterns = alternatives(pattern).unwrap_or_default();
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), path.as_bytes()))
}

/// `*` is any bytes but a slash. Backtracks to the last star only.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) if name[from] != b'/' => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_paths_and_what_is_below_them() {
        assert!(covers("accepted", "accepted/a.py") && covers("accepted/*", "accepted/a.py"));
        assert!(!covers("*/nested.py", "match/nested/nested.py") && !covers("match/match", "match/match_wa.py"));
        assert!(covers("x/ac.{py,cpp}", "x/ac.cpp") && !covers("x/ac.{py,cpp}", "x/ac.c"));
        assert!(covers("secret/*{ 4 }{ 2 }", "secret/42") && covers("secret/*{,1,2}{0,2}", "secret/132"));
        assert!(covers("secret/*-easy", "secret/1-easy/03") && !covers("secret/*-easy", "secret/1-hard"));
        assert!(!covers(&"{a,b}".repeat(30), "x"));
    }
}
