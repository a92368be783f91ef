//! Whether a program did not start because the image of its profile lacks the program that the
//! profile runs: the operator's mistake, not the submission's. Pure.
//!
//! Only a program that no submission can make, remove or choose counts: one that the profile names
//! and that is found in the image, whose file system is read-only.

use super::work::ProgramStep;
use nix::libc;
use protocol::Profile;
use wire::frame::{EXECVE, Ended};

/// Folders of a sandbox that programs write to, or that differ from run to run.
const CHANGING: [&str; 4] = ["/box", "/tmp", "/dev", "/proc"];

/// The program that the image lacks, if that is why the step did not start.
pub fn missing_program(ended: &Ended, step: &ProgramStep, profile: &Profile) -> Option<String> {
    let Ended::NotStarted { step: failed, errno } = ended else { return None };
    let is_absent = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ENOEXEC].contains(errno);
    let program = step.argv.first()?;
    let is_of_profile = [profile.run.first(), profile.compile.first()].contains(&Some(program));
    (failed == EXECVE && is_absent && is_of_profile && is_in_image(program, step, profile)).then(|| program.clone())
}

fn is_in_image(program: &str, step: &ProgramStep, profile: &Profile) -> bool {
    let is_fixed = |path: &str| path.starts_with('/') && !CHANGING.iter().any(|folder| path.starts_with(folder));
    if program.contains('/') {
        return is_fixed(program);
    }
    let path = step.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    path.is_some_and(|path| profile.env.get("PATH") == Some(path) && path.split(':').all(is_fixed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use protocol::Preset;

    fn missing(program: &str, path: &str, (failed, errno): (&str, i32)) -> Option<String> {
        let text = "name='p'\nimage='p'\nentry='a'\nrun=['/usr/bin/python3','{entry}']\ncompile=['gcc']\n\
                    [env]\nPATH='/usr/bin:/bin'";
        let profile: Profile = toml::from_str(text).unwrap();
        let step = ProgramStep {
            argv: [program.to_owned(), "a".to_owned()].into(),
            env: [("PATH".to_owned(), path.to_owned())].into(),
            limits: Preset::default().limits(),
            stdin: Bytes::new(),
            files: Vec::new(),
        };
        missing_program(&Ended::NotStarted { step: failed.to_owned(), errno }, &step, &profile)
    }

    #[test]
    fn only_the_profiles_own_program_in_the_image_is_missing_from_it() {
        let (usual, absent) = ("/usr/bin:/bin", (EXECVE, libc::ENOENT));
        assert_eq!(missing("/usr/bin/python3", usual, absent).as_deref(), Some("/usr/bin/python3"));
        assert_eq!(missing("/usr/bin/python3", usual, (EXECVE, libc::EACCES)).as_deref(), Some("/usr/bin/python3"));
        assert_eq!(missing("gcc", usual, absent).as_deref(), Some("gcc"));
        // the submission's variables decide where it is looked for
        assert_eq!(missing("gcc", "/box:/bin", absent), None);
        // a command of the submission's
        assert_eq!(missing("/usr/bin/perl", usual, absent), None);
        // too many arguments, or too little memory
        assert_eq!(missing("/usr/bin/python3", usual, (EXECVE, libc::E2BIG)), None);
        assert_eq!(missing("/usr/bin/python3", usual, ("chdir", libc::ENOENT)), None);
        let ended = Ended::Exited(127);
        let profile: Profile = toml::from_str("name='p'\nimage='p'\nentry='a'\nrun=['/x']").unwrap();
        let step = ProgramStep {
            argv: ["/x".to_owned()].into(),
            env: [].into(),
            limits: Preset::default().limits(),
            stdin: Bytes::new(),
            files: Vec::new(),
        };
        assert_eq!(missing_program(&ended, &step, &profile), None);
    }
}
