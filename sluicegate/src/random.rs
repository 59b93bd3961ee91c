//! The operating system's random bytes: for secrets, and for the seeds that the libraries take.

/// Fills `bytes` for a secret.
///
/// # Panics
/// When the operating system has no random bytes: nothing that needs a secret may go on then.
#[allow(clippy::expect_used)]
pub(crate) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A seed for jitter and spreading, which need not be secret.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
