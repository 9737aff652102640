//! What the checks found, for people and for machines.

use madrigal::config::Config;
use serde_json::{Value, json};

use super::checks::{CHECKS, Check, Finding, Verdict};
use super::facts::Facts;

/// Everything that was found, what matters most first.
pub(crate) struct Report {
    purpose: String,
    host: String,
    findings: Vec<(&'static Check, Finding)>,
}

impl Report {
    /// Makes all checks for a daemon with `config`, which is called `purpose`.
    pub(crate) fn new(purpose: &str, facts: &Facts, config: &Config) -> Self {
        let mut findings: Vec<_> =
            CHECKS.iter().map(|check| (check, check.look(facts, config))).collect();
        findings.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.verdict));
        Self { purpose: purpose.to_owned(), host: host(facts), findings }
    }

    /// The worst of all.
    pub(crate) fn verdict(&self) -> Verdict {
        self.findings.first().map_or(Verdict::Fine, |(_, finding)| finding.verdict)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|(_, finding)| finding.verdict == verdict).count()
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{} on {}\n\n", self.purpose, self.host);
        for (check, finding) in &self.findings {
            let verdict = finding.verdict.as_str();
            text += &format!("{verdict:<8} {}: {}\n", check.name, finding.found);
            if finding.verdict == Verdict::Fine {
                continue;
            }
            text += &format!("         why: {}\n", check.why);
            if let Some(mend) = &finding.mend {
                text += &format!("         do:  {mend}\n");
            }
        }
        let [stops, warnings, notes] =
            [Verdict::Stop, Verdict::Warning, Verdict::Note].map(|verdict| self.count(verdict));
        text += &format!(
            "\n{} checks; stops: {stops}, warnings: {warnings}, notes: {notes}\n",
            self.findings.len()
        );
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let of_one = |(check, finding): &(&Check, Finding)| {
            json!({
                "check": check.name,
                "verdict": finding.verdict.as_str(),
                "found": finding.found,
                "why": check.why,
                "mend": finding.mend,
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "purpose": self.purpose,
            "host": self.host,
            "verdict": self.verdict().as_str(),
            "checks": self.findings.iter().map(of_one).collect::<Vec<_>>(),
        })
    }
}

/// The host in a few words.
fn host(facts: &Facts) -> String {
    let mut text = match &facts.kernel.release {
        Some(release) => format!("Linux {release}"),
        None => "an unknown kernel".to_owned(),
    };
    if let Some(usable) = &facts.cpus.usable {
        text += &format!(", {} CPUs", usable.len());
    }
    if let Some(container) = facts.container {
        text += &format!(", in a container ({container})");
    }
    if let Some(hypervisor) = &facts.hypervisor {
        text += &format!(", in a virtual machine ({hypervisor})");
    }
    text
}
