//! Serves an empty AWS on loopback until it is interrupted, and prints its address: `http://127.0.0.1:PORT`.
//!
//! Arguments: the port (default 0, any free one) and a file for the DynamoDB tables (default memory).

use std::error::Error;

use local_aws::{LocalAws, Options};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().as_deref().unwrap_or("0").parse()?;
    let aws = LocalAws::new(Options {
        dynamodb_path: arguments.next().map(Into::into),
        ..Options::default()
    })?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = CancellationToken::new();
    let address = listener.local_addr()?;
    #[allow(clippy::print_stdout)]
    {
        println!("http://{address}");
    }
    let interrupted = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    aws.serve(listener, stop).await?;
    Ok(())
}
