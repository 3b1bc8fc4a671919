//! `tidemill serve`: the host as a service.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use tidemill::api::{self, Access, Token};
use tidemill::plugin::Runtime;
use tidemill::service::{Compiler, Logs, Options, Refusal, RefusalKind, Service};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::data::DataFolder;
use super::exit::Exit;

/// Of the control plane: requests, supervision, timers. Compiling and the disk have threads of their own.
const THREADS_COUNT: usize = 2;

/// The arguments of `tidemill serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where the API listens: an address of this machine alone; with port 0 any port that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// A name that requests may call this host by, beside loopback: that of a proxy in front; may be repeated
    #[arg(long = "allowed-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
}

pub(super) fn run(args: &ServeArgs, data: &DataFolder, cache: &Path, logs: Logs) -> Result<(), Exit> {
    if !args.listen.ip().is_loopback() {
        return Err(Exit::usage(format!(
            "--listen {} would let other machines in, and the API doesn't speak TLS: \
             listen at 127.0.0.1, put a proxy with TLS in front, and name it with --allowed-host",
            args.listen
        )));
    }
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS_COUNT)
        .thread_name("tidemill-control")
        .enable_all()
        .build()
        .map_err(|e| Exit::failure(format!("cannot start threads: {e}")))?;
    let served = executor.block_on(serve(args, data, cache, logs));
    // Dropped in order it would wait for whatever still runs on threads of its own.
    executor.shutdown_background();
    served
}

async fn serve(args: &ServeArgs, data: &DataFolder, cache: &Path, logs: Logs) -> Result<(), Exit> {
    let signals = signals().map_err(|e| Exit::failure(format!("cannot listen to signals: {e}")))?;
    data.make()?;
    // Before pipelines are started: it is what fails when the host runs already. Who comes early waits.
    let listener = TcpListener::bind(args.listen).await.map_err(|e| cannot_listen(args, &e))?;
    let runtime = Runtime::new(cache).map_err(Exit::failure)?;
    let program = std::env::current_exe().map_err(|e| Exit::failure(format!("where is tidemill? {e}")))?;
    let compiler = Compiler::new(Some(program), cache.to_owned());
    let options = Options { runtime, compiler, logs };
    let service = Service::open(data.path(), options).await.map_err(refused)?;
    // From here on the folder is ours alone, and whatever happens, pipelines that run are stopped in order.
    let served = serve_api(args, data, service.clone(), listener, signals).await;
    service.shut_down().await;
    served
}

/// Serves the API until the host is asked to stop.
async fn serve_api(
    args: &ServeArgs,
    data: &DataFolder,
    service: Service,
    listener: TcpListener,
    mut signals: watch::Receiver<u32>,
) -> Result<(), Exit> {
    let address = listener.local_addr().map_err(|e| cannot_listen(args, &e))?;
    let access = Access::new(Token::new(&data.token_or_new()?)).with_hosts(args.allowed_hosts.clone());
    let url = format!("http://{address}");
    let _announced = data.announce(&url)?;
    super::print(&format!("tidemill serves at {url} (data in {})\n", data.path().display()))?;
    // Without a way to hear signals nobody sends any.
    let stop = async move { _ = signals.wait_for(|signals| *signals > 0).await };
    let served = api::serve(service, listener, access, stop).await;
    served.map_err(|e| Exit::failure(format!("the API can't be served any longer: {e}")))
}

fn cannot_listen(args: &ServeArgs, error: &io::Error) -> Exit {
    Exit::usage(format!("cannot listen at {}: {error}", args.listen))
}

fn refused(refusal: Refusal) -> Exit {
    match refusal.kind {
        RefusalKind::Failed => Exit::failure(refusal),
        RefusalKind::NotFound | RefusalKind::Invalid | RefusalKind::Conflict => Exit::usage(refusal),
    }
}

/// Counts how often the host was asked to stop; the second time the process ends at once.
fn signals() -> io::Result<watch::Receiver<u32>> {
    let (told, signals) = watch::channel(0);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.send_modify(|signals| *signals += 1);
            if *told.borrow() > 1 {
                std::process::exit(130);
            }
            super::tell("stopping; once more to leave at once\n");
        }
    });
    Ok(signals)
}
