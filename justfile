# `just` lists the recipes; `just --list` says what each does.

default:
    @just --list

# The whole platform on this machine, on real data.
demo:
    cargo run --release

# Format, then everything that CI checks.
all: format
    .ci/run

# Write the one format.
format:
    cargo fmt --all

# What the compiler and the lints say.
check:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests, or those whose name contains FILTER.
test FILTER="":
    cargo test --workspace {{FILTER}}

# Seeds of the simulation: just sim --seeds 10000 [--first 1]. Ends at the first that breaks a promise.
sim *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    export SIM_SEEDS=1000 SIM_FIRST=1
    set -- {{ARGS}}
    while [ $# -gt 0 ]; do
        case $1 in
            --seeds) SIM_SEEDS=$2 ;;
            --first) SIM_FIRST=$2 ;;
            *) echo "just sim [--seeds N] [--first K]" >&2; exit 2 ;;
        esac
        shift 2
    done
    cargo test --profile sim -p tests --test sim p1_ -- --nocapture

# 1,000 shards and 20 workers: how fast they are shared out, and what that costs. And what a reshard costs.
sim-scale:
    cargo test --profile sim -p tests --test sim scale -- --nocapture

# The exhaustive model of the lease protocol, with its state counts; BOUNDS=large takes much longer.
model BOUNDS="small":
    LEASE_MODEL={{BOUNDS}} cargo test -p lease-manager --lib model:: -- --nocapture

# Feed a decoder of the processor what libFuzzer thinks of: frames, event, answer, aggregate, route or filter. What it finds is kept in target/fuzz. Takes
# `cargo install cargo-fuzz` and a C++ compiler; any toolchain will do.
fuzz TARGET SECONDS="600":
    mkdir -p target/fuzz/{{TARGET}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir processor/fuzz --target-dir target/fuzz/build {{TARGET}} target/fuzz/{{TARGET}} \
        processor/fuzz/corpus/{{TARGET}} -- -max_total_time={{SECONDS}} -max_len=16384

# Which layer of the proof notices which deliberate bug.
mutations *ARGS:
    tests/mutations/run {{ARGS}}

# Kill, stop and restart the workers of a fleet of three, RUNS times each: how long their shards stand still, and what comes twice.
failover RUNS="20":
    FLEET_RUNS={{RUNS}} FLEET_JSON={{justfile_directory()}}/target/failover.json cargo test -p sluicegate --test it fleet:: -- --nocapture --test-threads 4

# Documentation with every internal link checked.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Licences, banned crates, sources.
deny:
    cargo deny check --hide-inclusion-graph licenses bans sources

# Put generated messages into a stream of an endpoint.
produce STREAM ENDPOINT="http://127.0.0.1:4566" RATE="100":
    cargo run --release -p loadtest -- produce --stream {{STREAM}} --endpoint-url {{ENDPOINT}} --generate 1KiB --rate {{RATE}}

# One image, for this machine's architecture.
image TAG="sluicegate:dev":
    buildah build --file deploy-ecs/image/Dockerfile --tag {{TAG}} .
