//! TLS in probes, after STARTTLS (RFC 3207): the one place that knows rustls.
//!
//! [`Client`] holds what all sessions share; [`Tunnel`] is the TLS of one connection and works on its non-blocking stream.
//! A handshake is no step of its own: it goes on with every event, by reading and writing, and [`Tunnel::established`]
//! tells when it is over. How long it may take is the probe's business, as is what follows a failure.
//!
//! TLS 1.2 and 1.3. Where the certificate doesn't count (`tls = "opportunistic"`), any is taken; that the server has its
//! key is checked all the same. What rustls can't speak with (TLS 1.0, RSA keys below 2048 bits, certificates of X.509
//! version 1) is a failed handshake, after which opportunistic probes go on in the clear.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore,
    SignatureScheme,
};

use super::stream::Stream;

/// Names another file with the certificates of the authorities that are trusted, as for OpenSSL.
const FILE_VARIABLE: &str = "SSL_CERT_FILE";

/// Where systems keep them; the first that is there.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Path, size and time of a file: whether it has to be read again.
type Stamp = (PathBuf, Option<(u64, Option<SystemTime>)>);

/// What all sessions share.
pub struct Client {
    provider: Arc<CryptoProvider>,
    /// Any certificate will do.
    lenient: io::Result<Arc<ClientConfig>>,
    /// The certificate must prove the name; or why nothing can.
    strict: Result<Arc<ClientConfig>, String>,
    /// The file behind `strict`.
    stamp: Option<Stamp>,
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl Client {
    /// Nobody is trusted yet.
    pub fn new() -> Client {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let lenient = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
            .map(shared)
            .map_err(io::Error::other);
        Client { provider, lenient, strict: Err("no authority is trusted yet".to_owned()), stamp: None }
    }

    /// Reads the certificates of the authorities if some backend needs them and the file has changed: 150 of them take a
    /// few milliseconds, at a start or reload.
    pub fn configure(&mut self, verifies: bool) {
        if !verifies {
            return;
        }
        let path = authorities_file();
        let metadata = fs::metadata(&path).ok();
        let stamp = (path, metadata.map(|metadata| (metadata.len(), metadata.modified().ok())));
        if self.stamp.as_ref() == Some(&stamp) {
            return;
        }
        self.strict = self.trusting(&stamp.0);
        match &self.strict {
            Ok(_) => log::debug!("certificates of authorities: {}", stamp.0.display()),
            Err(error) => log::error!("{error}; backends with tls = \"required\" can't be asked"),
        }
        self.stamp = Some(stamp);
    }

    fn trusting(&self, path: &Path) -> Result<Arc<ClientConfig>, String> {
        let said = |what: String| format!("{}: certificates of authorities: {what}", path.display());
        let pem = fs::read(path).map_err(|e| said(crate::config::reason(&e)))?;
        let mut roots = RootCertStore::empty();
        // One that rustls can't read must not cost the others.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        if roots.is_empty() {
            return Err(said("none in it".to_owned()));
        }
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
            .map(shared)
            .map_err(|e| said(e.to_string()))
    }

    /// Begins a handshake with the server of this name, which may be an address; `verify`: its certificate must prove it.
    pub fn begin(&self, name: Option<&str>, verify: bool) -> io::Result<Tunnel> {
        let parsed = name.and_then(|name| ServerName::try_from(name.trim_end_matches('.').to_owned()).ok());
        let (config, name) = match (verify, parsed) {
            (true, Some(parsed)) => (self.strict.as_ref().map_err(|e| io::Error::other(e.clone()))?, parsed),
            (true, None) => return Err(io::Error::other("the server has no name that a certificate could prove")),
            (false, parsed) => {
                let config = self.lenient.as_ref().map_err(|e| io::Error::other(e.to_string()))?;
                // An address is not sent to the server.
                (config, parsed.unwrap_or_else(|| ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())))
            }
        };
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Tunnel { connection, told: false })
    }
}

/// Sessions are not resumed: each asks many questions, and the certificate of each is to be seen.
fn shared(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn authorities_file() -> PathBuf {
    let named = env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let found = || FILES.iter().find(|path| Path::new(path).exists()).copied().unwrap_or(FILES[0]).into();
    named.unwrap_or_else(found)
}

/// The TLS of one connection.
pub struct Tunnel {
    connection: ClientConnection,
    /// That the handshake is over has been told.
    told: bool,
}

impl Tunnel {
    /// Whether the handshake is over; `true` once.
    pub fn established(&mut self) -> bool {
        let now = !self.told && !self.connection.is_handshaking();
        self.told |= now;
        now
    }

    /// The version that is spoken, once the handshake is over.
    pub fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            _ => Some("TLS"),
        }
    }

    /// Whether something waits for the stream.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads what the server has sent, as [`Read::read`] does: as much as is there and fits, for a reply is to be seen
    /// with what follows it at once. Afterwards, [`Tunnel::established`] may be news.
    pub fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let step = self.read_once(stream, &mut buffer[filled..]);
            match step {
                Ok(Some(0)) | Err(_) if filled > 0 => return Ok(filled), // Comes again with the next call.
                Ok(Some(0)) => return Ok(0),
                Ok(Some(read)) => filled += read,
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            if filled == buffer.len() {
                return Ok(filled);
            }
        }
    }

    /// Text if there is some, else a piece from the stream: `None`.
    fn read_once(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Err(error) = self.connection.process_new_packets() {
            // The server shall hear why; whether it does is its affair.
            let _ = self.send(stream);
            return Err(io::Error::new(ErrorKind::InvalidData, said(&error)));
        }
        self.send(stream)?;
        match self.connection.reader().read(buffer) {
            // Replies have an end of their own: a connection that is cut hides nothing.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(Some(0)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.connection.read_tls(stream).map(|_| None),
            read => read.map(Some),
        }
    }

    /// Writes from the front of `output` what the stream takes. During the handshake, that is what the handshake needs.
    pub fn write(&mut self, stream: &mut Stream, output: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let taken = self.connection.writer().write(output)?;
            output.drain(..taken);
            self.send(stream)?;
            // The rest stays: for the end of the handshake, or until the stream takes more.
            if output.is_empty() || taken == 0 || self.connection.wants_write() {
                return Ok(());
            }
        }
    }

    /// Says goodbye, if the stream takes it.
    pub fn close(&mut self, stream: &mut Stream) {
        self.connection.send_close_notify();
        let _ = self.send(stream);
    }

    fn send(&mut self, stream: &mut Stream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The words for an operator.
fn said(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate is of no authority that is trusted here".to_owned()
        }
        Error::InvalidMessage(_) => format!("not TLS: {error}"),
        error => error.to_string(),
    }
}

/// Takes any certificate; the signatures of the handshake are checked with its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
