//! The steps of one program on its sandbox: compile, run, collect files. Serves the submission and
//! its referees alike.
//!
//! ```text
//!  compile --> cached? --yes--> its artifact goes with the next step
//!                |no
//!                '--> step, then its artifact into the cache
//!  begin (files that are not there yet, program, input) --> finish (supervise) --> facts
//! ```

use std::time::{Duration, Instant};

use super::cache::{Artifact, Cache, CacheKey};
use super::cancel::CancelSignal;
use super::decide;
use super::missing_program::missing_program;
use super::pipe::Pipe;
use super::supervise::{FinishedRun, RunIo, Supervisor};
use super::talk;
use crate::usage::SAMPLE_PERIOD;
use crate::work::{CompileStep, ProgramStep, WorkFile};
use config::bounds;
use protocol::{Profile, RunFacts};
use sandbox::lifecycle::{CollectedFiles, Lost, RunHandle, RunOrder, Sandbox, convert};
use wire::frame::{Collect, MAX_CHUNK_BYTES, Put, Run};

/// Time spent in each part of a submission.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Queueing files on the sandbox's connection.
    pub copy_in: Duration,
    /// The part of `copy_in` that belongs to the compile step.
    pub compile_copy_in: Duration,
    pub compile: Duration,
    /// All runs, each from its order to `Done`.
    pub run: Duration,
    /// The init's set-up before each program's start; a part of `run`.
    pub setup: Duration,
    /// Wall time of the programs themselves; a part of `run`.
    pub program: Duration,
    /// Bringing files back from the sandbox.
    pub collect: Duration,
    /// Compiling and running checkers and interactors.
    pub check: Duration,
    /// Deciding outcomes and comparing output.
    pub decide: Duration,
}

impl Timings {
    /// Adds the time of runs on another sandbox.
    pub(super) fn add(&mut self, other: &Timings) {
        self.copy_in += other.copy_in;
        self.run += other.run;
        self.setup += other.setup;
        self.program += other.program;
        self.decide += other.decide;
    }
}

/// The result of a compile step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CompileResult {
    pub facts: RunFacts,
    pub is_cached: bool,
    /// A file that the profile keeps and that a compiler without an error did not make.
    pub not_made: Option<String>,
}

/// A program on its sandbox.
pub(super) struct Runner<'a> {
    sandbox: &'a mut Sandbox,
    profile: &'a Profile,
    pub truncate_output: bool,
    pub cancel: CancelSignal,
    pub timings: Timings,
    /// The program's own files, until the first step sends them.
    source_files: &'a [WorkFile],
    /// Files of a cached artifact, until the next step sends them.
    artifact_files: Vec<WorkFile>,
    /// What the last step did not make of its `keep`.
    keep_missing: Vec<String>,
    /// Whether other sandboxes run what the compile step makes.
    pub shares_artifact: bool,
    /// What other sandboxes need to run the program besides its own files. `None` if that is not
    /// known.
    shared: Option<Vec<WorkFile>>,
    /// Whether another step follows the next one at once.
    pub more: bool,
    /// Whether prewarmed runtimes may be used.
    pub prewarm: bool,
    /// Whether a prewarmed runtime ran any step.
    pub was_hot: bool,
    /// When the last step ended.
    free_since: Instant,
}

/// A program that was compiled, for other sandboxes.
pub(super) struct SharedProgram<'a> {
    profile: &'a Profile,
    truncate_output: bool,
    prewarm: bool,
    artifact_files: Vec<WorkFile>,
}

impl SharedProgram<'_> {
    /// A runner of it on another sandbox. The first step sends its files.
    pub fn on<'b>(
        &'b self,
        sandbox: &'b mut Sandbox,
        source_files: &'b [WorkFile],
        cancel: CancelSignal,
    ) -> Runner<'b> {
        let mut runner = Runner::new(sandbox, self.profile, source_files, self.truncate_output, cancel);
        runner.artifact_files.clone_from(&self.artifact_files);
        runner.prewarm = self.prewarm;
        runner
    }
}

/// A step that was handed to the sandbox. Dropping it kills the program.
pub(super) struct PendingRun {
    handle: RunHandle,
    started: Instant,
}

impl<'a> Runner<'a> {
    pub fn new(
        sandbox: &'a mut Sandbox,
        profile: &'a Profile,
        source_files: &'a [WorkFile],
        truncate_output: bool,
        cancel: CancelSignal,
    ) -> Runner<'a> {
        Runner {
            sandbox,
            profile,
            truncate_output,
            cancel,
            timings: Timings::default(),
            source_files,
            artifact_files: Vec::new(),
            keep_missing: Vec::new(),
            shares_artifact: false,
            shared: Some(Vec::new()),
            more: false,
            prewarm: true,
            was_hot: false,
            free_since: Instant::now(),
        }
    }

    /// Compiles, or takes the artifact from the cache.
    pub async fn compile(
        &mut self,
        compile: &CompileStep,
        cache: Option<(&Cache, &CacheKey)>,
    ) -> Result<CompileResult, Lost> {
        let started = Instant::now();
        let artifact = match cache {
            Some((cache, key)) => cache.get(key.clone()).await,
            None => None,
        };
        let result = match artifact {
            Some(Artifact { facts, files }) => {
                // a file of the submission is never replaced by one that a compiler made
                let sources = self.source_files;
                self.artifact_files = files;
                self.artifact_files.retain(|made| !sources.iter().any(|file| file.path == made.path));
                self.shared = Some(self.artifact_files.clone());
                CompileResult { facts, is_cached: true, not_made: None }
            }
            None => {
                let facts = self.run_compiler(compile, cache).await?;
                let not_made = self.not_made(compile);
                CompileResult { facts, is_cached: false, not_made }
            }
        };
        self.timings.compile = started.elapsed();
        Ok(result)
    }

    /// Runs the compile step and puts what it made into the cache. Its output goes into the report,
    /// not into the event log.
    async fn run_compiler(
        &mut self,
        compile: &CompileStep,
        cache: Option<(&Cache, &CacheKey)>,
    ) -> Result<RunFacts, Lost> {
        self.more = true;
        let facts = self.step(&compile.step, &compile.keep, RunIo::default()).await?;
        self.more = false;
        let Timings { copy_in, decide, .. } = self.timings;
        self.timings = Timings { copy_in, compile_copy_in: copy_in, decide, ..Timings::default() };
        self.shared = None;
        let is_wanted = cache.is_some() || self.shares_artifact;
        if decide::compile_verdict(&facts).is_none() && self.keep_missing.is_empty() && is_wanted {
            let CollectedFiles { files, refused } = self.fetch(compile.keep.clone()).await?;
            if refused.is_empty() && !files.is_empty() {
                let artifact = Artifact::new(facts.clone(), files);
                self.shared = self.shares_artifact.then(|| artifact.files.clone());
                cache.into_iter().for_each(|(cache, key)| cache.put(key.clone(), artifact.clone()));
            }
        }
        Ok(facts)
    }

    /// A file that the profile keeps by its name, and that the last step did not make: the runs
    /// need it. A pattern may match nothing.
    fn not_made(&self, compile: &CompileStep) -> Option<String> {
        let is_named = |path: &&String| compile.keep.contains(path) && !path.contains(['*', '?']);
        self.keep_missing.iter().find(is_named).cloned()
    }

    /// What other sandboxes need to run the same program. `None` if what the compile step made is
    /// not known.
    pub fn program(&self) -> Option<SharedProgram<'a>> {
        let artifact_files = self.shared.clone()?;
        let Runner { profile, truncate_output, prewarm, .. } = *self;
        Some(SharedProgram { profile, truncate_output, prewarm, artifact_files })
    }

    /// What the compile step made, as far as that is known.
    pub fn made(&self) -> Vec<WorkFile> {
        self.shared.clone().unwrap_or_default()
    }

    /// Brings back the files that match.
    pub async fn collect(&mut self, patterns: &[String]) -> Result<CollectedFiles, Lost> {
        if patterns.is_empty() {
            return Ok(CollectedFiles::default());
        }
        let started = Instant::now();
        let files = self.fetch(patterns.to_vec()).await?;
        self.timings.collect += started.elapsed();
        Ok(files)
    }

    async fn fetch(&mut self, patterns: Vec<String>) -> Result<CollectedFiles, Lost> {
        let (max_files, max_bytes) = (bounds::MAX_COLLECT_FILES, bounds::MAX_COLLECT_BYTES);
        self.sandbox.collect(Collect { patterns, max_files, max_bytes }).await
    }

    /// Runs a step. Files that match `keep` stay for the next one.
    pub async fn step(&mut self, step: &ProgramStep, keep: &[String], io: RunIo<'_>) -> Result<RunFacts, Lost> {
        let pending = self.begin(step, keep, io);
        self.finish(pending, step, io).await
    }

    /// Hands a step to the sandbox. If another one is under way, it starts when that one has ended.
    pub fn begin(&mut self, step: &ProgramStep, keep: &[String], io: RunIo<'_>) -> PendingRun {
        let started = Instant::now();
        let is_streamed = io.log.is_some_and(|(log, _)| log.keeps_output());
        let mut limits = convert::run_limits(&step.limits);
        io.talk.into_iter().for_each(|talk| limits.wall_ns = convert::nanos(talk.armed_wall()));
        let usage_interval = match (io.talk, io.log) {
            (Some(_), _) => talk::USAGE_PERIOD,
            (None, Some(_)) => SAMPLE_PERIOD,
            (None, None) => Duration::ZERO,
        };
        let is_live = io.is_live && (is_streamed || io.input.is_some());
        let artifact_files = std::mem::take(&mut self.artifact_files);
        let source_files = std::mem::take(&mut self.source_files);
        let order = RunOrder {
            files: source_files.iter().chain(&artifact_files).chain(&step.files).flat_map(put_frames).collect(),
            program: Run {
                run: 0,
                argv: step.argv.to_vec(),
                env: step.env.to_vec(),
                limits,
                clean: true,
                keep: keep.to_vec(),
                remove_after: step.files.iter().map(|file| file.path.clone()).collect(),
                truncate_output: self.truncate_output,
                relax: convert::relax(&self.profile.allow),
                report_output_ends: io.output.is_some(),
                usage_interval_ns: convert::nanos(usage_interval),
                more: self.more,
                hot: self.prewarm,
                live_env: if is_live { self.live_env(step) } else { Vec::new() },
            },
            stdin: step.stdin.clone(),
            stdin_open: io.input.is_some(),
        };
        let handle = self.sandbox.run(order);
        self.timings.copy_in += started.elapsed();
        PendingRun { handle, started }
    }

    /// The profile's variables for a live run that the step does not set itself.
    fn live_env(&self, step: &ProgramStep) -> Vec<(String, String)> {
        let is_set = |name: &str| step.env.iter().any(|(set, _)| set == name);
        let live = self.profile.live_env.iter().filter(|(name, _)| !is_set(name));
        live.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Waits for a step that [`Runner::begin`] started; `step` and `io` are the same as there.
    pub async fn finish(&mut self, pending: PendingRun, step: &ProgramStep, io: RunIo<'_>) -> Result<RunFacts, Lost> {
        let PendingRun { handle, started } = pending;
        let finished = Supervisor::new(handle, &step.limits, io, self.cancel.clone()).run().await;
        // a step that was queued behind another one counts from that one's end
        let started = started.max(std::mem::replace(&mut self.free_since, Instant::now()));
        io.output.into_iter().for_each(Pipe::close);
        io.input.into_iter().for_each(Pipe::close_reader);
        let FinishedRun { mut done, view, output } = finished?;
        io.talk.into_iter().for_each(|talk| done.wall_ns = convert::nanos(talk.charged()));
        if decide::is_short_of_memory(&done, &step.limits) && !view.cancelled {
            return Err(Lost::OutOfMemory);
        }
        let ended = Instant::now();
        self.timings.run += ended.saturating_duration_since(started);
        self.timings.setup += Duration::from_nanos(done.setup_ns);
        self.timings.program += Duration::from_nanos(done.wall_ns);
        self.was_hot |= done.hot;
        self.keep_missing = std::mem::take(&mut done.keep_missing);
        let mut facts = decide::facts(&done, &step.limits, view, output.stdout, output.stderr);
        facts.missing_program = missing_program(&done.ended, step, self.profile);
        self.timings.decide += ended.elapsed();
        Ok(facts)
    }
}

/// A file as frames. An empty file is one empty frame.
fn put_frames(file: &WorkFile) -> Vec<Put> {
    let put = |append, data: &[u8]| Put { path: file.path.clone(), mode: file.mode, append, data: data.to_vec() };
    if file.data.is_empty() {
        return vec![put(false, &[])];
    }
    file.data.chunks(MAX_CHUNK_BYTES).enumerate().map(|(index, chunk)| put(index > 0, chunk)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_file_is_split_into_frames_and_an_empty_one_is_one_frame() {
        let file = |data: Vec<u8>| WorkFile { path: "a".to_owned(), mode: 0o644, data: Bytes::from(data) };
        assert_eq!(put_frames(&file(vec![])).len(), 1);
        let frames = put_frames(&file(vec![1; MAX_CHUNK_BYTES + 1]));
        assert_eq!(
            frames.iter().map(|put| (put.append, put.data.len())).collect::<Vec<_>>(),
            [(false, MAX_CHUNK_BYTES), (true, 1)]
        );
    }
}
