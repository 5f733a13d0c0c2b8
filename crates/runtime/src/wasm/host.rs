//! The host side of one instance: what its store holds, and what WASI shows it.
//!
//! It sees its environment, its package (read-only, at /var/task), clocks, random numbers and its log. It has no
//! files to write, no sockets, no standard input.

use std::sync::Arc;

use bytes::Bytes;
use types::TraceHeader;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::wasi::{blobstore, config, keyvalue};
use super::blobstore::Budget;
use super::function::Function;
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::output::{Output, Stream};

/// Where a function finds its package.
pub(super) const TASK_ROOT: &str = "/var/task";

/// Handles (streams, fields, requests ...) that an instance may hold. With the two below it bounds what an instance
/// can make the host remember.
const MAX_RESOURCES: usize = 2048;
/// What the headers of one message may take, in bytes.
const MAX_FIELD_BYTES: usize = 64 * 1024;
/// How many random bytes may be asked for at once.
const MAX_RANDOM_BYTES: u64 = 1024 * 1024;
/// How much one call from the instance may hand to the host, in bytes.
pub(super) const MAX_CALL_BYTES: usize = 16 * 1024 * 1024;

/// What a store holds.
pub(super) struct Host {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    pub(super) limits: Limits,
    /// What objects that are read or written take of the host's memory.
    pub(super) budget: Budget,
    pub(super) function: Arc<Function>,
    /// The trace of the request under way.
    pub(super) trace: TraceHeader,
}

impl Host {
    /// Whether an instance can go on to other requests: one that keeps the handles of every request would run out of
    /// them in the middle of one.
    pub(super) fn has_room(&mut self) -> bool {
        match self.table.push(()) {
            Ok(probe) => {
                let at = probe.rep();
                // It was put there just now.
                let _ = self.table.delete(probe);
                usize::try_from(at).is_ok_and(|at| at < MAX_RESOURCES / 2)
            }
            Err(_) => false,
        }
    }

    pub(super) fn new(function: &Arc<Function>, output: &Arc<Output>, trace: TraceHeader) -> Self {
        let mut builder = WasiCtx::builder();
        builder
            .stdout(Stream::stdout(output))
            .stderr(Stream::stderr(output))
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(MAX_RANDOM_BYTES);
        let mut wasi = builder.build();
        wasi.filesystem().clone_from(&function.component.files);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELD_BYTES);
        Self {
            table,
            wasi,
            http,
            outgoing: Outgoing::new(function.clone(), output.clone()),
            limits: Limits::new(function.memory_mb),
            budget: Budget::default(),
            function: function.clone(),
            trace,
        }
    }
}

impl Host {
    /// The handles that the instance holds.
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Calls a service of the platform in the name of the function's role, authorised as anybody's call is.
    pub(super) async fn call(
        &mut self,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        let function = &self.function;
        function.shared.services.call(&function.caller, &self.trace, service, request).await
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// For interfaces that are implemented on [`Host`] itself.
pub(super) struct OnHost;

impl HasData for OnHost {
    type Data<'a> = &'a mut Host;
}

impl environment::Host for Host {
    // Not WASI's own, since that would copy the environment for every instance, whether it is asked for or not.
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let mut all = self.function.environment.clone();
        all.push(("_X_AMZN_TRACE_ID".to_owned(), self.trace.to_string()));
        Ok(all)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(TASK_ROOT.to_owned()))
    }
}

/// All that components may import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    environment::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    linker.allow_shadowing(false);
    config::store::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    keyvalue::store::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    keyvalue::atomics::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    keyvalue::batch::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    blobstore::types::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    blobstore::container::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    blobstore::blobstore::add_to_linker::<Host, OnHost>(&mut linker, |host| host)?;
    Ok(linker)
}
