//! The wire, through the real SDK client.
