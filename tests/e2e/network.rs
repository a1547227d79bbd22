//! A network namespace with nothing but loopback.
//!
//! Owns the calling thread's place in it: whatever this thread connects to, and every program it starts, is inside.
//! Port 25 and the shipped port 8910 are free in each test, and no packet gets out.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// The namespace; left when dropped.
pub struct Network {
    outside: File,
    /// A namespace belongs to a thread.
    not_send: PhantomData<Rc<()>>,
}

impl Network {
    /// Moves the calling thread into a new namespace.
    pub fn enter() -> io::Result<Network> {
        let outside = File::open("/proc/thread-self/ns/net")?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let network = Network { outside, not_send: PhantomData };
        loopback_up()?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.outside, CloneFlags::CLONE_NEWNET) {
            eprintln!("can't leave the network namespace: {error}");
        }
    }
}

/// `ip link set lo up`, said to the kernel directly: rtnetlink(7), and iproute2 need not be there.
fn loopback_up() -> io::Result<()> {
    const LENGTH: u32 = 32;
    const LOOPBACK: i32 = 1;
    let up = libc::IFF_UP as u32;
    let mut message = Vec::new();
    // struct nlmsghdr
    message.extend(LENGTH.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(up.to_ne_bytes());
    message.extend(up.to_ne_bytes());

    let kernel = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(kernel.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = [0; 256];
    let length = recv(kernel.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // struct nlmsgerr follows the header; its error is 0 or a negative errno.
    match reply[..length].get(16..20) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(&[a, b, c, d]) => Err(io::Error::from_raw_os_error(-i32::from_ne_bytes([a, b, c, d]))),
        _ => Err(io::Error::other("short answer from rtnetlink")),
    }
}
