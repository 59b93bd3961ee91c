//! Judges that this project did not write, as far as they are installed: see tests/verifiers/README.md.
//!
//! Nothing is installed from here: a judge that is not there is skipped, and says so.

use std::path::Path;

use crate::harness::child::run_in_shell;

/// The exit code of a verifier whose tool is not installed.
const SKIPPED: i32 = 77;

/// Runs one verifier against the binary under test; its steps are printed, and all must have passed.
async fn verify(name: &str) {
    let sluicegate = env!("CARGO_BIN_EXE_sluicegate");
    // Built beside it in a workspace build; only these need it.
    let loadtest = Path::new(sluicegate).with_file_name("loadtest");
    if matches!(name, "signatures" | "cloudevents" | "aws-destinations" | "kcl" | "openapi")
        && !loadtest.exists()
    {
        println!("skipped {name}: {} is not built", loadtest.display());
        return;
    }
    let binaries = [format!("SLUICEGATE={sluicegate}"), format!("LOADTEST={}", loadtest.display())];
    let [sluicegate, loadtest] = &binaries;
    let run = "../tests/verifiers/run";
    let output = run_in_shell("env", &["NO_INSTALL=1", sluicegate, loadtest, run, name]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    match output.status.code() {
        Some(0) => {}
        Some(SKIPPED) => assert!(said.contains("skipped: "), "it says why: {said}"),
        code => panic!("{code:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_kinesis_and_dynamodb_as_it_knows_them() {
    verify("boto3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_finds_kinesis_and_dynamodb_as_it_knows_them() {
    verify("aws-cli").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standards_own_libraries_verify_what_is_delivered() {
    verify("signatures").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn motos_event_bridge_lets_the_same_messages_pass() {
    verify("filters").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloudevents_libraries_read_what_is_delivered_in_each_form() {
    verify("cloudevents").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_into_aws_is_found_there_by_others() {
    verify("aws-destinations").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kcl_reads_our_leases_takes_them_over_and_gives_them_back() {
    verify("kcl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_certified_issuer_are_taken_and_others_are_not() {
    verify("oidc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_fields_are_structured_fields_to_others() {
    verify("ratelimit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_openapi_document_says() {
    verify("openapi").await;
}
