//! Measures rcptmapd beside redis, memcached and a bare epoll server, and prints one table.
//!
//! [`comparison`] is the run; [`server`] starts and loads what is compared ([`packages`] brings redis and
//! memcached, [`bare`] is the yardstick); [`load`] and [`paced`] ask and check every reply, in the words of
//! [`protocol`], about [`recipients`]; [`ahead`] asks beyond the lists; [`process`] tells what it cost, [`instructions`] counts, [`table`] shows.
//!
//! All load goes to UNIX sockets and loopback; servers are started by hand in a temporary folder and
//! stopped at the end. README.md says how figures come about.

pub mod ahead;
pub mod bare;
pub mod comparison;
pub mod endpoint;
pub mod instructions;
pub mod load;
pub mod paced;
pub mod packages;
pub mod process;
pub mod protocol;
pub mod recipients;
pub mod server;
pub mod table;
