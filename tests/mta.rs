//! End-to-end tests with the real sendmail, Exim and Postfix.
mod e2e;
use e2e::scenarios;
use e2e::snippet::Endpoint::{Tcp, Unix};
use e2e::world::Wiring::*;

#[test] fn a1() { scenarios::show(PostfixRelayRecipients, Unix) }
#[test] fn a2() { scenarios::show(PostfixRelayRecipients, Tcp) }
#[test] fn a3() { scenarios::show(PostfixCheckAccess, Unix) }
#[test] fn a4() { scenarios::show(PostfixCheckAccess, Tcp) }
#[test] fn b1() { scenarios::show(EximLine, Unix) }
#[test] fn b2() { scenarios::show(EximLine, Tcp) }
#[test] fn b3() { scenarios::show(EximNetstring, Unix) }
#[test] fn b4() { scenarios::show(EximNetstring, Tcp) }
#[test] fn c1() { scenarios::show(SendmailRuleSet, Unix) }
#[test] fn c2() { scenarios::show(SendmailRuleSet, Tcp) }
#[test] fn c3() { scenarios::show(SendmailAccess, Unix) }
#[test] fn c4() { scenarios::show(SendmailAccess, Tcp) }
