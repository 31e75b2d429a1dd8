//! `pre-oom-killer run`, and the commands for people: see the library for what is where.

use std::process::ExitCode;

use pre_oom_killer::agent;
use pre_oom_killer::cli::{Cli, Command, EXIT_USAGE, without_unknown_flags};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let first = words.get(1).map(String::as_str);
    #[cfg(not(feature = "plugin"))]
    if let Some("check" | "status" | "why" | "recommend") = first {
        eprintln!("error: {}", pre_oom_killer::cli::NO_PLUGIN);
        return ExitCode::from(EXIT_USAGE);
    }
    #[cfg(feature = "plugin")]
    let program = pre_oom_killer::cli::program(words.first());
    let (words, unknown) = if first == Some("run") { without_unknown_flags(words) } else { (words, Vec::new()) };
    match Cli::read(words) {
        Ok(Cli { command: Command::Run(args) }) => agent::command(*args, unknown),
        #[cfg(feature = "plugin")]
        Ok(Cli { command: Command::Check(args) }) => plugin::check(&args),
        #[cfg(feature = "plugin")]
        Ok(Cli { command: Command::Status(args) }) => plugin::status(&args),
        #[cfg(feature = "plugin")]
        Ok(Cli { command: Command::Why(args) }) => plugin::why(&args, program),
        #[cfg(feature = "plugin")]
        Ok(Cli { command: Command::Recommend(args) }) => plugin::recommend(&args, program),
        Err(error) => {
            // Help and version are errors to clap, too.
            let usage = error.use_stderr();
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            if usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

/// The commands for people.
#[cfg(feature = "plugin")]
mod plugin {
    use std::io::{IsTerminal, Write, stderr, stdin, stdout};
    use std::process::ExitCode;

    use pre_oom_killer::cli::{colours, utf8};
    use pre_oom_killer::plugin::agents::query::Query;
    use pre_oom_killer::plugin::check::print;
    use pre_oom_killer::plugin::check::report::CheckReport;
    use pre_oom_killer::plugin::check::{CheckArgs, CheckFormat};
    use pre_oom_killer::plugin::recommend::findings::{Wanted, findings};
    use pre_oom_killer::plugin::recommend::{self, RecommendArgs};
    use pre_oom_killer::plugin::sanitize::{json_text, printable};
    use pre_oom_killer::plugin::status::survey::survey;
    use pre_oom_killer::plugin::status::watch::watch;
    use pre_oom_killer::plugin::status::{StatusArgs, StatusFormat, table};
    use pre_oom_killer::plugin::terminal::{Look, Paint};
    use pre_oom_killer::plugin::why::case::{Inquiry, inquire};
    use pre_oom_killer::plugin::why::{self, WhyArgs, WhyFormat};

    /// Colours and width, on a terminal.
    fn paint(terminal: bool) -> Paint {
        let width = || Some(ratatui::crossterm::terminal::size().ok()?.0).filter(|width| *width > 20);
        Paint { colours: colours(terminal), width: if terminal { width() } else { None } }
    }

    /// Text for stdout.
    fn look(program: &'static str) -> Look {
        Look { paint: paint(stdout().is_terminal()), utf8: utf8(), program, now: jiff::Timestamp::now() }
    }

    /// Judges manifests.
    pub fn check(args: &CheckArgs) -> ExitCode {
        let report = CheckReport::of(&args.filename, args.recursive, &mut stdin());
        let text = match args.output {
            CheckFormat::Text => print::text(&report, paint(stdout().is_terminal())),
            CheckFormat::Json => json_text(&print::json(&report)),
        };
        // A reader that has gone (`| head`) has seen enough.
        let _ = stdout().write_all(text.as_bytes());
        if args.output == CheckFormat::Text {
            let _ = stderr().write_all(print::unreadable(&report, paint(stderr().is_terminal())).as_bytes());
        }
        ExitCode::from(report.exit())
    }

    /// Asks the agents.
    pub fn status(args: &StatusArgs) -> ExitCode {
        ask(table(args))
    }

    /// Explains the last incident.
    pub fn why(args: &WhyArgs, program: &'static str) -> ExitCode {
        ask(async {
            let (client, query) = args.cluster.connect()?;
            let inquiry = Inquiry { named: args.named.clone(), container: args.container.clone(), query };
            let case = inquire(&client, &inquiry).await?;
            let text = match args.output {
                Some(WhyFormat::Json) => json_text(&why::json::json(&case, args.all, program)),
                None => why::text::text(&case, &inquiry, args.all, &look(program)),
            };
            Ok((text, case.is_known()))
        })
    }

    /// Says what each workload needs.
    pub fn recommend(args: &RecommendArgs, program: &'static str) -> ExitCode {
        ask(async {
            let (client, query) = args.cluster.connect()?;
            let query = Query { selector: args.selector.clone(), ..query };
            let wanted = Wanted { named: args.named.clone(), query, now: jiff::Timestamp::now() };
            let findings = findings(&client, &wanted).await?;
            let text = match args.output {
                Some(StatusFormat::Json) => json_text(&recommend::json::json(&findings, program)),
                form => recommend::table::text(&findings, &wanted, form == Some(StatusFormat::Wide), &look(program)),
            };
            Ok((text, findings.answered()))
        })
    }

    /// Prints what a command has found out. It says as well whether it has found anything.
    fn ask(command: impl Future<Output = anyhow::Result<(String, bool)>>) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(command)) {
            Ok((text, found)) => {
                let _ = stdout().write_all(text.as_bytes());
                if found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("error: {}", printable(&format!("{error:#}")));
                ExitCode::FAILURE
            }
        }
    }

    /// The table, and whether any agent answered.
    async fn table(args: &StatusArgs) -> anyhow::Result<(String, bool)> {
        let (client, query) = args.connect()?;
        if args.watch {
            anyhow::ensure!(stdout().is_terminal(), "--watch needs a terminal; without it, the table is written once");
            watch(client, query, args.interval).await?;
            return Ok((String::new(), true));
        }
        let survey = survey(&client, &query).await?;
        let text = match args.output {
            Some(StatusFormat::Json) => json_text(&table::json(&survey, &query)),
            form => table::text(&survey, &query, form == Some(StatusFormat::Wide), jiff::Timestamp::now()),
        };
        Ok((text, survey.answered()))
    }
}
