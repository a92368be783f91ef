//! A submission on a lease, from its files to its facts. The only part of judging that waits.
//!
//! ```text
//!  files+compile --> ok? --no--> compile_error
//!        |yes
//!        v
//!   test 1 (files go with the first step) -> test 2 -> ... -> done
//!        '-- a limit, a crash, a wrong answer: a verdict, and on with the next (or stop)
//!        '-- the sandbox is lost: Err, the scheduler decides whether once more
//! ```

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::cache::{Artifact, Cache, Key};
use super::check::{Answer, check};
use super::decide::{self, HostView};
use crate::config::bounds;
use crate::model::submission::Stop;
use crate::model::work::{Plan, Step, Test, Work, WorkFile};
use crate::model::{Limits, Outcome, Relaxation, RunFacts, Verdict};
use crate::sandbox::{Brought, Lost, RunEvent, RunOrder, Sandbox};
use crate::wire::frame::{Collect, MAX_CHUNK_BYTES, Put, Relax, Run, RunLimits, Stream};

/// What a streaming caller is told while a submission runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has a sandbox.
    Running,
    /// The compile step has ended.
    Compile {
        /// How.
        outcome: Outcome,
    },
    /// A test has ended.
    Test {
        /// Its name.
        name: String,
        /// Its verdict.
        verdict: Verdict,
    },
    /// Output.
    Output {
        /// The test's name.
        test: Option<String>,
        /// Which stream.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
    },
}

/// Where events go: nowhere, or into a bounded queue whose reader may be slow. While it is full, the run's output
/// waits, and with it (by the window) the program.
#[derive(Debug, Clone, Default)]
pub struct Sink(pub Option<mpsc::Sender<Event>>);

/// A sink that nobody reads.
static QUIET: Sink = Sink(None);

impl Sink {
    async fn send(&self, event: impl FnOnce() -> Event) {
        if let Some(sender) = &self.0 {
            // a reader that has gone costs nothing
            let _ = sender.send(event()).await;
        }
    }
}

/// A caller's wish to withdraw. Starts false, becomes true once.
pub type Cancel = watch::Receiver<bool>;

/// One test's result.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// Its verdict.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// Its weight.
    pub weight: f64,
    /// Its run; none when it was skipped.
    pub run: Option<RunFacts>,
}

/// A submission's result, before it becomes a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The verdict of the whole.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// The compile step.
    pub compile: Option<RunFacts>,
    /// Whether it was one of before.
    pub is_cached: bool,
    /// The tests.
    pub tests: Vec<TestResult>,
    /// The run, when there were no tests.
    pub run: Option<RunFacts>,
    /// Files brought back.
    pub files: Brought,
    /// Where the time went.
    pub spent: Spent,
}

impl Judged {
    /// Whether nothing happened after which a sandbox is better not used again, however it looks.
    pub fn is_calm(&self) -> bool {
        let runs = self.compile.iter().chain(&self.run).chain(self.tests.iter().filter_map(|test| test.run.as_ref()));
        let rough = [Outcome::MemoryLimit, Outcome::Cancelled, Outcome::Lost];
        runs.into_iter().all(|run| !rough.contains(&run.outcome) && run.evidence.oom_kills == 0)
    }
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Handing the files to the connection.
    pub copy_in: Duration,
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
}

/// Judges.
///
/// Dropping the future kills the program (the run handle does) and the sandbox is retired with its lease.
///
/// # Errors
/// The sandbox was lost.
pub async fn judge(
    sandbox: &mut Sandbox,
    work: &Work,
    sink: &Sink,
    cancel: &Cancel,
    cache: Option<(&Cache, Key)>,
) -> Result<Judged, Lost> {
    sink.send(|| Event::Running).await;
    let before = match cache {
        Some((cache, key)) => cache.get(key).await,
        None => None,
    };
    let is_cached = before.is_some();
    let mut driver =
        Driver { sandbox, work, sink, cancel: cancel.clone(), spent: Spent::default(), pending: work.files.clone() };
    let compile = match &work.compile {
        None => None,
        Some(_) if let Some(Artifact { facts, files }) = before => {
            // what the caller handed in is never replaced by what a compiler made
            let is_new = |made: &WorkFile| !work.files.iter().any(|file| file.path == made.path);
            driver.pending.extend(files.into_iter().filter(is_new));
            sink.send(|| Event::Compile { outcome: facts.outcome }).await;
            Some(facts)
        }
        Some(compile) => {
            let begun = Instant::now();
            // the compiler's words stand in the report; a stream is the program's
            driver.sink = &QUIET;
            let facts = driver.step(&compile.step, &compile.keep, None).await?;
            driver.sink = sink;
            driver.spent.compile = begun.elapsed();
            driver.spent.run = Duration::ZERO;
            driver.spent.setup = Duration::ZERO;
            driver.spent.program = Duration::ZERO;
            sink.send(|| Event::Compile { outcome: facts.outcome }).await;
            if let Some(verdict) = decide::compile_verdict(&facts) {
                let message = match facts.outcome {
                    Outcome::Exited => {
                        "The code does not compile; the compiler's words are in compile.stderr.".to_owned()
                    }
                    _ => format!("The compiler did not finish: {}", decide::message(&facts, &compile.step.limits)),
                };
                let tests = match &work.plan {
                    Plan::Run(_) => Vec::new(),
                    Plan::Tests(tests) => tests.iter().map(skipped).collect(),
                };
                let (files, spent) = (Brought::default(), driver.spent);
                return Ok(Judged {
                    verdict,
                    message,
                    compile: Some(facts),
                    is_cached,
                    tests,
                    run: None,
                    files,
                    spent,
                });
            }
            if let Some((cache, key)) = cache
                && let Some(files) = driver.made(&compile.keep).await?
            {
                cache.put(key, Artifact::new(facts.clone(), files));
            }
            Some(facts)
        }
    };
    match &work.plan {
        Plan::Run(step) => {
            let facts = driver.step(step, &[], None).await?;
            let verdict = decide::verdict(&facts);
            let message = decide::message(&facts, &step.limits);
            let files = driver.collect().await?;
            let (tests, run, spent) = (Vec::new(), Some(facts), driver.spent);
            Ok(Judged { verdict, message, compile, is_cached, tests, run, files, spent })
        }
        Plan::Tests(tests) => {
            let results = driver.tests(tests).await?;
            let (verdict, message) = whole(&results);
            let files = driver.collect().await?;
            let spent = driver.spent;
            Ok(Judged { verdict, message, compile, is_cached, tests: results, run: None, files, spent })
        }
    }
}

fn skipped(test: &Test) -> TestResult {
    TestResult {
        name: test.name.clone(),
        group: test.group.clone(),
        verdict: Verdict::Skipped,
        message: "Not run.".to_owned(),
        weight: test.weight,
        run: None,
    }
}

/// The whole is the first test that is not accepted.
fn whole(results: &[TestResult]) -> (Verdict, String) {
    match results.iter().find(|result| result.verdict != Verdict::Accepted) {
        None => (Verdict::Accepted, format!("All {} tests passed.", results.len())),
        Some(first) => (first.verdict, format!("Test {}: {}", first.name, first.message)),
    }
}

struct Driver<'a> {
    sandbox: &'a mut Sandbox,
    work: &'a Work,
    sink: &'a Sink,
    cancel: Cancel,
    spent: Spent,
    /// The submission's files, until the first step has taken them along.
    pending: Vec<WorkFile>,
}

impl Driver<'_> {
    /// What the compile step made, all of it.
    async fn made(&mut self, keep: &[String]) -> Result<Option<Vec<(String, Vec<u8>)>>, Lost> {
        let wanted = Collect {
            patterns: keep.to_vec(),
            max_files: bounds::MAX_COLLECT_FILES,
            max_bytes: bounds::MAX_COLLECT_BYTES,
        };
        let Brought { files, refused } = self.sandbox.collect(wanted).await?;
        Ok((refused.is_empty() && !files.is_empty()).then_some(files))
    }

    /// What the last run left of what the caller wants.
    async fn collect(&mut self) -> Result<Brought, Lost> {
        if self.work.collect.is_empty() {
            return Ok(Brought::default());
        }
        let begun = Instant::now();
        let wanted = Collect {
            patterns: self.work.collect.clone(),
            max_files: bounds::MAX_COLLECT_FILES,
            max_bytes: bounds::MAX_COLLECT_BYTES,
        };
        let brought = self.sandbox.collect(wanted).await?;
        self.spent.collect = begun.elapsed();
        Ok(brought)
    }

    async fn tests(&mut self, tests: &[Test]) -> Result<Vec<TestResult>, Lost> {
        let mut results: Vec<TestResult> = Vec::with_capacity(tests.len());
        let mut stopped = false;
        for test in tests {
            if stopped || *self.cancel.borrow() {
                let mut result = skipped(test);
                if !stopped {
                    result.verdict = Verdict::Cancelled;
                    result.message = "The submission was cancelled.".to_owned();
                }
                results.push(result);
                continue;
            }
            let facts = self.step(&test.step, &[], Some(&test.name)).await?;
            let (verdict, message) = grade(test, &facts);
            self.sink.send(|| Event::Test { name: test.name.clone(), verdict }).await;
            stopped = verdict != Verdict::Accepted && self.work.stop == Stop::FirstFailure;
            results.push(TestResult {
                name: test.name.clone(),
                group: test.group.clone(),
                verdict,
                message,
                weight: test.weight,
                run: Some(facts),
            });
        }
        Ok(results)
    }

    async fn step(&mut self, step: &Step, keep: &[String], test: Option<&str>) -> Result<RunFacts, Lost> {
        let begun = Instant::now();
        let files = std::mem::take(&mut self.pending).iter().chain(&step.files).flat_map(puts).collect();
        let order = RunOrder {
            files,
            program: Run {
                run: 0,
                argv: step.argv.clone(),
                env: step.env.clone(),
                limits: wire_limits(&step.limits),
                clean: true,
                keep: keep.to_vec(),
                remove_after: step.files.iter().map(|file| file.path.clone()).collect(),
                truncate_output: self.work.truncate_output,
                relax: relax(&self.work.profile.allow),
            },
            stdin: step.stdin.clone(),
        };
        let mut handle = self.sandbox.run(order);
        self.spent.copy_in += begun.elapsed();

        let mut kept = Kept::new(step.limits.output_bytes);
        let mut view = HostView { cancelled: *self.cancel.borrow(), backstop: false };
        if view.cancelled {
            handle.kill().await;
        }
        let backstop = tokio::time::sleep(step.limits.wall + bounds::BACKSTOP);
        tokio::pin!(backstop);
        let done = loop {
            let event = tokio::select! {
                event = handle.next() => event,
                () = withdrawn(&mut self.cancel), if !view.cancelled => {
                    view.cancelled = true;
                    handle.kill().await;
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
                    kept.take(stream, &data);
                    if self.sink.0.is_some() {
                        let test = test.map(str::to_owned);
                        let mut cancel = self.cancel.clone();
                        tokio::select! {
                            () = self.sink.send(|| Event::Output { test, stream, data }) => {}
                            () = withdrawn(&mut cancel), if !view.cancelled => {}
                            () = &mut backstop, if !view.backstop => {
                                // the reader is slow beyond the wall limit: its program has been ended by the init
                                view.backstop = false;
                                backstop.as_mut().reset(tokio::time::Instant::now() + bounds::SLOW_READER);
                            }
                        }
                    }
                }
                RunEvent::Done(done) => break done,
                RunEvent::Lost(lost) => return Err(lost),
            }
        };
        self.spent.run += begun.elapsed();
        self.spent.setup += Duration::from_nanos(done.setup_ns);
        self.spent.program += Duration::from_nanos(done.wall_ns);
        if let Some(missing) = done.keep_missing.first() {
            tracing::debug!(file = %missing.escape_debug(), "the compile step did not make what its profile keeps");
        }
        Ok(decide::facts(&done, &step.limits, view, kept.stdout, kept.stderr))
    }
}

fn relax(allowed: &[Relaxation]) -> Relax {
    let bits = |relaxation: &Relaxation| match relaxation {
        Relaxation::Ptrace => Relax::PTRACE,
        Relaxation::SysvIpc => Relax::SYSV_IPC,
        Relaxation::PosixMq => Relax::POSIX_MQ,
        Relaxation::IoUring => Relax::IO_URING,
    };
    allowed.iter().map(bits).fold(Relax::NONE, Relax::with)
}

/// Resolves when the caller withdraws; never, when it can no longer do so.
async fn withdrawn(cancel: &mut Cancel) {
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

fn wire_limits(limits: &Limits) -> RunLimits {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    RunLimits {
        cpu_ns: nanos(limits.cpu),
        wall_ns: nanos(limits.wall),
        output_bytes: limits.output_bytes,
        file_bytes: limits.file_bytes,
        open_files: limits.open_files,
        pids: limits.pids,
        memory_bytes: limits.memory_bytes,
    }
}

/// Output that is kept: bounded here too, whatever the init says.
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    room: u64,
}

impl Kept {
    fn new(room: u64) -> Kept {
        Kept { stdout: Vec::new(), stderr: Vec::new(), room }
    }

    fn take(&mut self, stream: Stream, data: &[u8]) {
        let n = self.room.min(data.len() as u64) as usize;
        self.room -= n as u64;
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(&data[..n]),
            Stream::Stderr => self.stderr.extend_from_slice(&data[..n]),
        }
    }
}

fn grade(test: &Test, facts: &RunFacts) -> (Verdict, String) {
    let verdict = decide::verdict(facts);
    match (&test.expect, verdict) {
        (Some(expect), Verdict::Accepted) => match check(&test.checker, expect, &facts.stdout) {
            Answer::Right => (Verdict::Accepted, "The output is right.".to_owned()),
            Answer::Wrong(difference) => (Verdict::WrongAnswer, difference.message(test.secret)),
        },
        _ => (verdict, decide::message(facts, &test.step.limits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

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
    fn the_whole_is_the_first_test_that_is_not_accepted() {
        let result = |name: &str, verdict| TestResult {
            name: name.to_owned(),
            group: None,
            verdict,
            message: "m".to_owned(),
            weight: 1.0,
            run: None,
        };
        let all = [result("1", Verdict::Accepted), result("2", Verdict::TimeLimit), result("3", Verdict::WrongAnswer)];
        assert_eq!(whole(&all).0, Verdict::TimeLimit);
        assert_eq!(whole(&all[..1]).0, Verdict::Accepted);
    }

    #[test]
    fn kept_output_never_passes_its_bound() {
        let mut kept = Kept::new(5);
        kept.take(Stream::Stdout, b"abc");
        kept.take(Stream::Stderr, b"defg");
        assert_eq!((kept.stdout.as_slice(), kept.stderr.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
