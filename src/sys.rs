//! stub
use crate::config::{Endpoint, Listen};
use crate::net::Bound;
pub struct Notifier;
impl Notifier {
    pub fn watchdog(&self) -> Option<std::time::Duration> {
        None
    }
    pub fn reloading(&self) {}
    pub fn ready(&self, _: &str) {}
    pub fn stopping(&self) {}
    pub fn alive(&self) {}
}
pub fn bind(l: &Listen, _backlog: u32) -> Result<Bound, String> {
    match &l.on {
        Endpoint::Unix(p) => std::os::unix::net::UnixListener::bind(p).map(Bound::Unix).map_err(|e| e.to_string()),
        Endpoint::Tcp(a) => std::net::TcpListener::bind(a).map(Bound::Tcp).map_err(|e| e.to_string()),
        _ => Err("no".into()),
    }
}
pub fn unbind(_: &Endpoint) {}
pub fn lower_priority() {}
