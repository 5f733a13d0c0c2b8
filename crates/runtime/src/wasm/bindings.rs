//! Interfaces that components may import beside WASI 0.2, as `wit/host.wit` has them.

// What the macro makes has no documentation, and is as visible as it likes.
#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "hawker:host/imports",
    imports: {
        "wasi:config/store.get": trappable,
        "wasi:config/store.get-all": trappable,
        default: async | trappable,
    },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:keyvalue/store.bucket": super::keyvalue::Table,
        "wasi:blobstore/container.container": super::blobstore::Bucket,
        "wasi:blobstore/container.stream-object-names": super::blobstore::Listing,
        "wasi:blobstore/types.incoming-value": super::blobstore::Incoming,
        "wasi:blobstore/types.outgoing-value": super::blobstore::Outgoing,
    },
});
