# assay: `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TRIPLE := $(shell rustc --print host-tuple 2>/dev/null || rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# The folder of the four programs; `BIN=folder make install` takes others.
BIN ?= target/$(TRIPLE)/release

.PHONY: help build install uninstall deb demo serve check test test-engines test-systemd test-cgroup2 test-languages accounting attacks chaos chaos-store separation soak bench bench-crowd bench-http bench-store fuzz deny sbom \
  reproducible sizes images doctor reference clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build assayd, assay, assay-init and assay-egress (release, static)
	cargo build --release --bins -p assay-daemon -p assay-cli -p assay-init -p assay-egress

install: ## install what was built, below PREFIX (default /usr/local); DESTDIR for packages
	scripts/install install

uninstall: ## remove what `make install` put below PREFIX; settings and state stay
	scripts/install uninstall

deb: ## the Debian package, into dist/; the same sources give the same bytes
	scripts/release-build
	scripts/sizes target/release-build/$(TRIPLE)/release
	scripts/sbom
	BIN=target/release-build/$(TRIPLE)/release scripts/package dist

demo: ## from nothing to verdicts: engine, programs, images, daemon, real submissions, timings
	scripts/demo

serve: ## the same without submissions; leaves the daemon in the foreground on ASSAY_SOCKET
	scripts/serve

check: ## the fast loop: format, lints, unit and offline tests; no root, no engine, installs nothing
	scripts/check

test: ## every check and every test, with a real engine; first prints what it installs
	scripts/test

test-engines: ## the client's tests and real judging on other engines from Debian: 20.10, 26.1, 28.5, Podman
	scripts/test-engines $(ENGINES)

test-systemd: build ## the release's package on a machine with systemd, all images built anew; about eight minutes
	scripts/with-engine env ASSAY_SYSTEMD_FULL=1 cargo test --test it systemd:: -- --nocapture

test-cgroup2: deb ## the same package on cgroup v2, in an emulated machine
	scripts/with-engine scripts/test-cgroup2 "$$(ls -t dist/*.deb | head -n 1)"

bench: ## compare with bare exec, docker run and another Engine client, in one run
	scripts/bench

bench-store: ## what the store costs, against the disk it is on (ROWS=n reports, default a million); no engine
	cargo bench -p assay-store --bench store -- --rows $(or $(ROWS),1000000)

# GO_JUDGE=/path/to/go-judge adds its rows; ROWS=python,cpp selects
bench-crowd: ## many callers as shipped, against bare exec and go-judge, in one run
	scripts/bench callers $(if $(ROWS),--rows $(ROWS))

bench-http: ## the API over HTTP against the socket: a thousand alternating pairs, 64 in flight, idle cost
	scripts/bench http

test-languages: ## build and try all further languages, and write the result into docs/LANGUAGES.md
	scripts/with-engine cargo test --test it more_languages:: -- --include-ignored --nocapture --test-threads 1

accounting: ## the random and the timed tests of figures against limits, ROUNDS=n times as often (default 20)
	scripts/with-engine env ASSAY_ACCOUNTING_ROUNDS=$(or $(ROUNDS),20) cargo test --test it accounting:: -- --nocapture --test-threads 1

attacks: ## run every attack against both kinds of sandbox, ROUNDS=n times (default 1)
	scripts/with-engine env ATTACKS_TABLE=1 ATTACKS_ROUNDS=$(or $(ROUNDS),1) cargo test --test it attacks:: -- --nocapture --test-threads 1

chaos: ## kill and stop parts at random for DURATION=n seconds (default 120), in the order of SEED=n
	scripts/with-engine env CHAOS_SECONDS=$(or $(DURATION),$(SECONDS),120) CHAOS_SEED=$(or $(SEED),1) cargo test --test it chaos:: -- --nocapture

chaos-store: ## kill the daemon KILLS=n times (default 100) under four callers: each submission is answered once
	scripts/with-engine env ASSAY_STORE_INSTANTS=$(or $(KILLS),100) ASSAY_STORE_SEED=$(or $(SEED),1) cargo test --test it store_kills:: -- --nocapture

separation: ## thirty programs that leave what they can to the next run, and a victim after each, ROUNDS=n times (default 4)
	ASSAY_SEPARATION_ROUNDS=$(or $(ROUNDS),4) scripts/with-engine cargo test --test it separation:: -- --nocapture --test-threads 1

soak: ## ten thousand submissions through one daemon, a hundred daemons killed: about twenty minutes
	scripts/with-engine cargo test --test it soak:: -- --ignored --nocapture --test-threads 1

fuzz: ## fuzz every target for DURATION=n seconds (default 60) each
	scripts/fuzz $(or $(DURATION),$(SECONDS),60)

deny: ## licences, sources and bans of what is linked in; ADVISORIES=1 checks advisories too
	scripts/deny

sbom: ## the bill of materials (CycloneDX) of what is linked in, into target/assay.cdx.json
	scripts/sbom

reproducible: ## build the last commit twice, in two folders: the same programs, the same package
	scripts/reproducible

sizes: build ## the sizes of the four programs against their bounds
	scripts/sizes

images: build ## build the profiles' images through the running daemon
	$(BIN)/assay images build $(PROFILES)

doctor: build ## check this machine, its Docker Engine and the daemon
	$(BIN)/assay doctor --config config/assayd.toml

reference: ## regenerate the settings in docs/OPERATIONS.md, docs/openapi.json and the tables of docs/HTTP.md from the code
	ASSAY_WRITE_REFERENCE=1 cargo test --test it docs::the_reference
	UPDATE_GOLDEN=1 cargo test --test it openapi::the_

clean: ## remove build output (images stay on the engine: assay/*)
	cargo clean
