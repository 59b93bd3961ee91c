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
