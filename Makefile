# assay: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TRIPLE := $(shell rustc --print host-tuple 2>/dev/null || rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# Where the three programs are; `BIN=folder make install` takes others.
BIN ?= target/$(TRIPLE)/release

.PHONY: help build install uninstall deb demo serve test test-engines test-systemd test-cgroup2 attacks chaos soak bench fuzz deny sbom \
  reproducible sizes images doctor reference clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build assayd, assay and assay-init (release, static)
	cargo build --release --bins

install: ## install what was built, below PREFIX (default /usr/local); DESTDIR for packages
	scripts/install install

uninstall: ## remove what `make install` put below PREFIX; settings and state stay
	scripts/install uninstall

deb: ## the Debian package, into dist/; the same sources give the same bytes
	scripts/release-build
	scripts/sizes target/release-build/$(TRIPLE)/release
	scripts/sbom
	BIN=target/release-build/$(TRIPLE)/release scripts/package dist

demo: ## everything from nothing: engine, images, daemon, real submissions, verdicts and timings
	scripts/demo

serve: ## the same, then leave the daemon in the foreground on ASSAY_SOCKET
	scripts/serve

test: ## format, lints, documentation and every test, against the real engine too
	scripts/test

test-engines: ## the client's tests and real judging on other engines out of Debian: 20.10, 26.1, 28.5, Podman
	scripts/test-engines $(ENGINES)

test-systemd: build ## the release's package on a machine with systemd, every image made from nothing; about eight minutes
	scripts/with-engine env ASSAY_SYSTEMD_FULL=1 cargo test --test it systemd:: -- --nocapture

test-cgroup2: deb ## the same package on cgroup v2, in a machine under software emulation
	scripts/with-engine scripts/test-cgroup2 "$$(ls -t dist/*.deb | head -n 1)"

bench: ## measure beside bare exec, docker run and another Engine client, in one run
	scripts/bench

attacks: ## try to break out of sandboxes of both kinds, ROUNDS=n times (default 1); prints every attack
	scripts/with-engine env ATTACKS_TABLE=1 ATTACKS_ROUNDS=$(or $(ROUNDS),1) cargo test --test it attacks:: -- --nocapture --test-threads 1

chaos: ## kill and stop everything at random for SECONDS=n (default 120), in the order of SEED=n
	scripts/with-engine env CHAOS_SECONDS=$(or $(SECONDS),120) CHAOS_SEED=$(or $(SEED),1) cargo test --test it storm:: -- --nocapture

soak: ## ten thousand submissions through one daemon, a hundred daemons killed: about twenty minutes
	scripts/with-engine cargo test --test it soak:: -- --ignored --nocapture --test-threads 1

fuzz: ## fuzz every target for SECONDS=n (default 60) each
	scripts/fuzz $(or $(SECONDS),60)

deny: ## licences, sources and bans of what is linked in; ADVISORIES=1 for known holes too
	scripts/deny

sbom: ## the bill of materials (CycloneDX) of what is linked in, into target/assay.cdx.json
	scripts/sbom

reproducible: ## build the last commit twice, in two folders: the same programs, the same package
	scripts/reproducible

sizes: build ## the three programs' sizes, each with its bound
	scripts/sizes

images: build ## build the profiles' images through the running daemon
	$(BIN)/assay images build $(PROFILES)

doctor: build ## check this machine, its Docker Engine and the daemon
	$(BIN)/assay doctor --config config/assayd.toml

reference: ## write the reference of settings in docs/OPERATIONS.md anew, from the code
	ASSAY_WRITE_REFERENCE=1 cargo test --test it docs::the_reference

clean: ## remove what was built here (images stay: assay/* on the engine)
	cargo clean
