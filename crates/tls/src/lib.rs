//! TLS of the connections that the node opens: one place says whom they trust, and with which cryptography.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// Trusts whom this host trusts: the certificate authorities of its store, or where `SSL_CERT_FILE` says. They are read
/// once. Without any, connections by TLS fail with that reason, and those without TLS work.
#[must_use]
pub fn client() -> ClientConfig {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions that are the default")
        .with_root_certificates(ROOTS.get_or_init(|| Arc::new(roots())).clone())
        .with_no_client_auth()
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(
            errors = ?found.errors,
            "no certificate authorities are known, so requests by https fail; install the package ca-certificates, or set \
             SSL_CERT_FILE"
        );
    }
    roots
}
