//! One program's steps on its sandbox: compile it, run it, bring back what it left. Used for the submission itself and for
//! the programs that judge it.
//!
//! ```text
//!  order (files that are not there yet, program, input) --> run --> events --> facts
//!      output --> kept within its limit, told to who streams, or piped into another program
//!      input  <-- all at once, or piped from a caller or another program
//!      cancel, backstop --> kill; Done still comes, or the sandbox is lost
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::cache::{Artifact, Cache, CacheKey};
use super::decide::{self, HostView};
use super::events::{EventLog, SubmissionEvent};
use super::pipe::Pipe;
use crate::work::{CompileStep, ProgramStep, WorkFile};
use config::bounds;
use protocol::{Profile, RunFacts};
use sandbox::lifecycle::{CollectedFiles, Lost, RunEvent, RunHandle, RunOrder, Sandbox, convert};
use wire::frame::{Collect, Done, MAX_CHUNK_BYTES, OutputStream, Put, Run};

/// A caller's wish to withdraw. Starts false, becomes true once.
pub type CancelSignal = watch::Receiver<bool>;

/// What a program takes of an open input beyond what it has read.
const INPUT_AHEAD: u64 = 64 * 1024;

/// How long after its output's end a program is given to end, before the other side is told of that.
/// Speaker broke first decides, and a busy machine may take its time between a program's last descriptor and its end.
const LAST_BREATH: Duration = Duration::from_millis(250);

/// How long after its wall limit a program has been ended, and what it said is thrown away where nobody takes it.
const OVERDUE: Duration = Duration::from_millis(500);

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Handing the files to the connection.
    pub copy_in: Duration,
    /// The part of it that was for the compile step.
    pub compile_copy_in: Duration,
    /// The compile step.
    pub compile: Duration,
    /// All runs, from the order to Done.
    pub run: Duration,
    /// The init's part of it before each program's start.
    pub setup: Duration,
    /// The programs' own wall time.
    pub program: Duration,
    /// Bringing files back.
    pub collect: Duration,
    /// Checkers, interactors included that went on after the program.
    pub check: Duration,
    /// Deciding what the runs came to, comparing their output.
    pub decide: Duration,
}

/// Speaker listens to a run, and who feeds it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunIo<'a> {
    /// Whom its output is told, and under which test's name.
    pub log: Option<(&'a EventLog, Option<&'a str>)>,
    /// Where its stdout goes.
    pub output: Option<&'a Pipe>,
    /// Where its input comes from; what the step has is all there is otherwise.
    pub input: Option<&'a Pipe>,
    /// Whether nobody asks for its stdout afterwards.
    pub forgets_stdout: bool,
}

/// A compile step's end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CompileResult {
    pub facts: RunFacts,
    /// Whether it was one of before.
    pub is_cached: bool,
}

/// A program on its sandbox.
pub(super) struct Runner<'a> {
    sandbox: &'a mut Sandbox,
    profile: &'a Profile,
    pub truncate_output: bool,
    pub cancel: CancelSignal,
    pub timings: Timings,
    /// The program's files, until the first step has taken them along.
    given: &'a [WorkFile],
    /// What was compiled before, likewise.
    made: Vec<WorkFile>,
    /// Whether everything is there that the last step was to keep.
    kept_all: bool,
    /// Whether another step follows the next one at once.
    pub more: bool,
    /// Whether runtimes that wait may be used.
    pub prewarm: bool,
    /// Whether one was.
    pub was_hot: bool,
    /// When the last step had ended.
    free_since: Instant,
}

/// A step on its way. Dropped, it ends.
pub(super) struct PendingRun {
    handle: RunHandle,
    at: Instant,
}

impl<'a> Runner<'a> {
    pub fn new(
        sandbox: &'a mut Sandbox,
        profile: &'a Profile,
        files: &'a [WorkFile],
        truncate_output: bool,
        cancel: CancelSignal,
    ) -> Runner<'a> {
        let (timings, made) = (Timings::default(), Vec::new());
        Runner {
            sandbox,
            profile,
            truncate_output,
            cancel,
            timings,
            given: files,
            made,
            kept_all: true,
            more: false,
            prewarm: true,
            was_hot: false,
            free_since: Instant::now(),
        }
    }

    /// Compiles, or takes what was compiled before.
    pub async fn compile(
        &mut self,
        compile: &CompileStep,
        cache: Option<(&Cache, CacheKey)>,
    ) -> Result<CompileResult, Lost> {
        let begun = Instant::now();
        let before = match cache {
            Some((cache, key)) => cache.get(key).await,
            None => None,
        };
        let compiled = match before {
            Some(Artifact { facts, files }) => {
                // what the caller handed in is never replaced by what a compiler made
                let given = self.given;
                self.made = files;
                self.made.retain(|made| !given.iter().any(|file| file.path == made.path));
                CompileResult { facts, is_cached: true }
            }
            None => {
                // the compiler's words stand in the report; a stream is the program's
                self.more = true;
                let facts = self.step(&compile.step, &compile.keep, RunIo::default()).await?;
                self.more = false;
                let Timings { copy_in, decide, .. } = self.timings;
                self.timings = Timings { copy_in, compile_copy_in: copy_in, decide, ..Timings::default() };
                if decide::compile_verdict(&facts).is_none()
                    && self.kept_all
                    && let Some((cache, key)) = cache
                {
                    let CollectedFiles { files, refused } = self.bring(compile.keep.clone()).await?;
                    if refused.is_empty() && !files.is_empty() {
                        cache.put(key, Artifact::new(facts.clone(), files));
                    }
                }
                CompileResult { facts, is_cached: false }
            }
        };
        self.timings.compile = begun.elapsed();
        Ok(compiled)
    }

    /// Files that the last step left.
    pub async fn collect(&mut self, patterns: &[String]) -> Result<CollectedFiles, Lost> {
        if patterns.is_empty() {
            return Ok(CollectedFiles::default());
        }
        let begun = Instant::now();
        let brought = self.bring(patterns.to_vec()).await?;
        self.timings.collect += begun.elapsed();
        Ok(brought)
    }

    async fn bring(&mut self, patterns: Vec<String>) -> Result<CollectedFiles, Lost> {
        let (max_files, max_bytes) = (bounds::MAX_COLLECT_FILES, bounds::MAX_COLLECT_BYTES);
        self.sandbox.collect(Collect { patterns, max_files, max_bytes }).await
    }

    /// Runs a step; what it keeps is there for the next.
    pub async fn step(&mut self, step: &ProgramStep, keep: &[String], ports: RunIo<'_>) -> Result<RunFacts, Lost> {
        let begun = self.begin(step, keep, ports);
        self.finish(begun, step, ports).await
    }

    /// Hands a step to the sandbox. One may be begun while another is under way; it runs when that one has ended.
    pub fn begin(&mut self, step: &ProgramStep, keep: &[String], ports: RunIo<'_>) -> PendingRun {
        let at = Instant::now();
        let listens = ports.log.is_some_and(|(log, _)| log.keeps_output());
        let made = std::mem::take(&mut self.made);
        let given = std::mem::take(&mut self.given);
        let order = RunOrder {
            files: given.iter().chain(&made).chain(&step.files).flat_map(puts).collect(),
            program: Run {
                run: 0,
                argv: step.argv.clone(),
                env: step.env.clone(),
                limits: convert::run_limits(&step.limits),
                clean: true,
                keep: keep.to_vec(),
                remove_after: step.files.iter().map(|file| file.path.clone()).collect(),
                truncate_output: self.truncate_output,
                relax: convert::relax(&self.profile.allow),
                report_output_ends: ports.output.is_some(),
                usage_interval_ns: if listens { convert::nanos(bounds::USAGE_EVERY) } else { 0 },
                more: self.more,
                hot: self.prewarm,
            },
            stdin: step.stdin.clone(),
            stdin_open: ports.input.is_some(),
        };
        let handle = self.sandbox.run(order);
        self.timings.copy_in += at.elapsed();
        PendingRun { handle, at }
    }

    /// From there to its facts; `step` and `ports` are those that it began with.
    pub async fn finish(&mut self, begun: PendingRun, step: &ProgramStep, ports: RunIo<'_>) -> Result<RunFacts, Lost> {
        let PendingRun { handle, at } = begun;
        let mut kept = CapturedOutput::new(step.limits.output_bytes);
        let end = self.supervise(handle, step.limits.wall, &mut kept, ports).await;
        let at = at.max(std::mem::replace(&mut self.free_since, Instant::now()));
        // whoever talks with it notices
        ports.output.into_iter().for_each(Pipe::close);
        ports.input.into_iter().for_each(Pipe::leave);
        let (done, view) = end?;
        let ended = Instant::now();
        self.timings.run += ended.saturating_duration_since(at);
        self.timings.setup += Duration::from_nanos(done.setup_ns);
        self.timings.program += Duration::from_nanos(done.wall_ns);
        self.was_hot |= done.hot;
        self.kept_all = done.keep_missing.is_empty();
        if let Some(missing) = done.keep_missing.first() {
            tracing::debug!(file = %missing.escape_debug(), "the compile step did not make what its profile keeps");
        }
        let facts = decide::facts(&done, &step.limits, view, kept.stdout, kept.stderr);
        self.timings.decide += ended.elapsed();
        Ok(facts)
    }

    /// From the order to Done.
    async fn supervise(
        &mut self,
        mut handle: RunHandle,
        wall: Duration,
        kept: &mut CapturedOutput,
        ports: RunIo<'_>,
    ) -> Result<(Box<Done>, HostView), Lost> {
        let mut view = HostView { cancelled: *self.cancel.borrow(), backstop: false };
        if view.cancelled {
            handle.kill().await;
        }
        let backstop = tokio::time::sleep(wall + bounds::BACKSTOP);
        // by then the init has ended the program, and waits for nothing but its last output being taken
        let overdue = tokio::time::sleep(wall + OVERDUE);
        // who is about to end closes its output a moment before: whoever reads it shall not be the first to end
        let closing = tokio::time::sleep(Duration::MAX);
        tokio::pin!(backstop, overdue, closing);
        let mut is_closing = false;
        let mut input = ports.input;
        loop {
            // a pipe that is full holds back the program whose output fills it, by its window
            let is_over = view.cancelled || overdue.is_elapsed();
            if ports.output.is_some_and(|pipe| is_over || pipe.has_room()) {
                handle.credit().await;
            }
            let event = tokio::select! {
                event = handle.next() => event,
                () = withdrawn(&mut self.cancel), if !view.cancelled => {
                    view.cancelled = true;
                    handle.kill().await;
                    continue;
                }
                data = next_input(input), if input.is_some() && handle.input_ahead() < INPUT_AHEAD => {
                    match data {
                        Some(data) => handle.input(data).await,
                        None => {
                            handle.end_input().await;
                            input = None;
                        }
                    }
                    continue;
                }
                () = room(ports.output), if handle.owes_credit() => continue,
                () = &mut overdue, if handle.owes_credit() => continue,
                () = &mut closing, if is_closing => {
                    is_closing = false;
                    ports.output.into_iter().for_each(Pipe::close);
                    continue;
                }
                () = &mut backstop => {
                    if view.backstop {
                        return Err(Lost::Silent);
                    }
                    view.backstop = true;
                    handle.kill().await;
                    backstop.as_mut().reset(tokio::time::Instant::now() + bounds::BACKSTOP);
                    continue;
                }
            };
            match event {
                RunEvent::Output { stream, data } => {
                    if !ports.forgets_stdout || stream == OutputStream::Stderr {
                        kept.take(stream, &data);
                    }
                    match ports.output {
                        // what nobody takes in time is thrown away
                        Some(pipe) if stream == OutputStream::Stdout && (!is_over || pipe.has_room()) => {
                            pipe.push(Bytes::from(data.clone()));
                        }
                        _ => handle.credit().await,
                    }
                    if let Some((log, test)) = ports.log.filter(|(log, _)| log.keeps_output()) {
                        let test = test.map(str::to_owned);
                        let mut cancel = self.cancel.clone();
                        tokio::select! {
                            () = log.tell(SubmissionEvent::Output { test, stream, data }) => {}
                            () = withdrawn(&mut cancel), if !view.cancelled => {}
                            () = &mut backstop, if !view.backstop => {
                                // the reader is slow beyond the wall limit: its program has been ended by the init
                                view.backstop = false;
                                backstop.as_mut().reset(tokio::time::Instant::now() + bounds::SLOW_READER);
                            }
                        }
                    }
                }
                RunEvent::OutputEnd(OutputStream::Stdout) => {
                    is_closing = true;
                    closing.as_mut().reset(tokio::time::Instant::now() + LAST_BREATH);
                }
                RunEvent::OutputEnd(OutputStream::Stderr) | RunEvent::InputTaken(_) => {}
                RunEvent::Usage(usage) => {
                    if let Some((log, test)) = ports.log {
                        let test = test.map(str::to_owned);
                        tokio::select! {
                            () = log.tell(SubmissionEvent::Usage { test, usage }) => {}
                            // old news are no news
                            () = tokio::time::sleep(bounds::USAGE_EVERY) => {}
                        }
                    }
                }
                RunEvent::Done(done) => return Ok((done, view)),
                RunEvent::Lost(lost) => return Err(lost),
            }
        }
    }
}

async fn next_input(pipe: Option<&Pipe>) -> Option<Bytes> {
    match pipe {
        Some(pipe) => pipe.take().await,
        None => std::future::pending().await,
    }
}

async fn room(pipe: Option<&Pipe>) {
    match pipe {
        Some(pipe) => pipe.room().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the caller withdraws; never, when it can no longer do so.
pub(super) async fn withdrawn(cancel: &mut CancelSignal) {
    if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A file as frames. An empty file is one empty frame.
fn puts(file: &WorkFile) -> Vec<Put> {
    let put = |append, data: &[u8]| Put { path: file.path.clone(), mode: file.mode, append, data: data.to_vec() };
    if file.data.is_empty() {
        return vec![put(false, &[])];
    }
    file.data.chunks(MAX_CHUNK_BYTES).enumerate().map(|(index, chunk)| put(index > 0, chunk)).collect()
}

/// Output that is kept: bounded here too, whatever the init says.
struct CapturedOutput {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    room: u64,
}

impl CapturedOutput {
    fn new(room: u64) -> CapturedOutput {
        CapturedOutput { stdout: Vec::new(), stderr: Vec::new(), room }
    }

    fn take(&mut self, stream: OutputStream, data: &[u8]) {
        let n = self.room.min(data.len() as u64) as usize;
        self.room -= n as u64;
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(&data[..n]),
            OutputStream::Stderr => self.stderr.extend_from_slice(&data[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_frames_and_an_empty_one_still_exists() {
        let file = |data: Vec<u8>| WorkFile { path: "a".to_owned(), mode: 0o644, data: Bytes::from(data) };
        assert_eq!(puts(&file(vec![])).len(), 1);
        let frames = puts(&file(vec![1; MAX_CHUNK_BYTES + 1]));
        assert_eq!(
            frames.iter().map(|put| (put.append, put.data.len())).collect::<Vec<_>>(),
            [(false, MAX_CHUNK_BYTES), (true, 1)]
        );
    }

    #[test]
    fn kept_output_never_passes_its_bound() {
        let mut kept = CapturedOutput::new(5);
        kept.take(OutputStream::Stdout, b"abc");
        kept.take(OutputStream::Stderr, b"defg");
        assert_eq!((kept.stdout.as_slice(), kept.stderr.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
