//! The wall clock as the messages' times are written: ms since 1970. Monotonic time is tokio's.

use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;

/// Now, in ms since 1970; 0 for a clock that stands before it.
pub(crate) fn wall_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
