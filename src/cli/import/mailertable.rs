//! A mailertable or a Postfix transport file: read by the daemon as it is, so that only its place is to be told.

use std::path::Path;

use super::{Import, listeners, quoted};
use crate::cli::text;
use crate::probe::route::{Table, Target};

/// The configuration for a file, or why there is none.
pub(super) fn import(bytes: &[u8], path: &Path) -> Result<Import, String> {
    let mut import = Import::default();
    let table = Table::read(bytes, |line, error| import.lose(line, error.to_string()));
    // What can't be understood is told as lost, by its line.
    let usable = table.domains().filter(|(_, target)| !matches!(target, Target::Unusable(_)));
    let mut domains: Vec<(String, &Target)> =
        usable.map(|(domain, target)| (text::printable_text(domain), target)).collect();
    domains.sort_by(|(a, _), (b, _)| a.cmp(b));
    if domains.is_empty() {
        return Err("no line names a domain and where its mail goes".to_owned());
    }
    let mut asked = String::new();
    for (domain, target) in domains {
        match target {
            Target::Hop(hop) => asked += &format!("#   {domain}: {hop}\n"),
            Target::Local => import.notes.push(format!("{domain} is delivered on this host: everybody exists")),
            Target::Refuse(reply) if reply.is_temporary() => {
                import.notes.push(format!("{domain} is closed for now: \"{reply}\""));
            }
            Target::Refuse(_) => import.notes.push(format!("{domain} is closed: nobody exists")),
            Target::Unusable(_) => {}
            Target::Mx(name) => import.lost.push(format!(
                "{domain}: nobody is asked at \"{}\" without brackets, whose MX may be this host: write smtp:[host]",
                text::printable_text(name.as_bytes())
            )),
        }
    }
    import.notes.push("a next hop for all else (\".\" or \"*\") makes no domain ours".to_owned());
    import.body = format!(
        "{}\n# Asked are, for now:\n{asked}[nexthops]\nfile = {}\n\
         domains = true                    # every domain in it is ours\n",
        listeners(None),
        quoted(&path.to_string_lossy())
    );
    Ok(import)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_file_is_named_and_what_is_of_no_use_is_told() {
        let file = b"example.org smtp:[mbx.example.org]\n.example.org lmtp:unix:/run/lmtp\nx.example uucp:x\n\
                     mx.example smtp:hub.example\nhere.example local:\nshut.example error:5.1.2:550 shut\n. smtp:[h]\n";
        let import = import(file, Path::new("/etc/mail/mailer\"table")).expect("domains");
        let config = parse(&import);
        let nexthops = config.nexthops.expect("the section");
        assert!(nexthops.domains);
        assert_eq!(nexthops.file, Path::new("/etc/mail/mailer\"table"));
        assert_eq!(import.lost.len(), 2, "{:?}", import.lost);
        assert!(import.lost[0].starts_with("line 3: transport"), "{:?}", import.lost);
        assert!(import.body.contains("#   .example.org: lmtp:unix:/run/lmtp\n"), "{}", import.body);
        assert!(super::import(b"# nothing\n", Path::new("x")).is_err());
    }
}
