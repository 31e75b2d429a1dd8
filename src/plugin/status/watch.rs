//! `status --watch`: the table again and again on the whole terminal, with sorting and a filter.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, StatefulWidget, Table, TableState, Widget, Wrap};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::ask::{Query, Survey, agents_alone, ended};
use super::rows::{Order, Row, bar, rough, rows, sort};
use super::table::silent;
use crate::plugin::sanitize::printable;

/// Keys that were pressed and are not obeyed yet.
const KEYS: usize = 64;
/// Events are listed so often: the API server looks through all of the cluster's for them. The agents' own memory of
/// evictions is read each time.
const EVENTS_EACH: Duration = Duration::from_secs(30);
/// Lines for agents that do not answer; the rest are counted.
const MOST_SILENT: usize = 3;
/// A longer filter finds nothing more.
const LONGEST_FILTER: usize = 64;

/// What the view shows, and how; a survey and keys change it.
#[derive(Debug, Default)]
pub struct View {
    rows: Vec<Row>,
    silent: Vec<String>,
    agents: usize,
    taken: Option<Timestamp>,
    /// Why the last look failed; the rows are those of the one before.
    trouble: Option<String>,
    order: Order,
    reversed: bool,
    filter: String,
    /// Keys go to the filter.
    editing: bool,
    /// Uid and container of the row that is selected: it stays the same one when rows change their places.
    selected: Option<(String, Option<String>)>,
    table: TableState,
}

/// What a key asks for beyond the view itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Stay,
    /// The end.
    Quit,
}

impl View {
    /// Takes a survey in.
    pub fn take(&mut self, survey: &Survey, query: &Query, now: Timestamp) {
        self.rows = rows(survey, query);
        self.silent = silent(survey, query);
        self.agents = survey.agents.len();
        self.taken = Some(now);
        self.trouble = survey
            .ended
            .as_ref()
            .err()
            .map(|why| format!("of evictions, only what the agents remember is known: {why}"));
    }

    /// Takes in that there is none.
    pub fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Obeys a key.
    pub fn key(&mut self, key: KeyEvent) -> Ask {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Ask::Quit;
        }
        if self.editing {
            match key.code {
                KeyCode::Enter => self.editing = false,
                KeyCode::Esc => {
                    self.editing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char('u') if control => self.filter.clear(),
                KeyCode::Char(c) if !control && self.filter.chars().count() < LONGEST_FILTER => self.filter.push(c),
                _ => {}
            }
            self.selected = None;
            return Ask::Stay;
        }
        let page = 10;
        match key.code {
            KeyCode::Char('q') => return Ask::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Ask::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char('s') => {
                let at = Order::ALL.iter().position(|order| *order == self.order).unwrap_or(0);
                self.order = Order::ALL[(at + 1) % Order::ALL.len()];
                self.selected = None;
            }
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(page),
            KeyCode::PageUp => self.step(-page),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            _ => {}
        }
        Ask::Stay
    }

    fn step(&mut self, by: isize) {
        let shown = self.shown();
        let to = self.place(&shown).unwrap_or(0).saturating_add_signed(by).min(shown.len().saturating_sub(1));
        self.selected = shown.get(to).map(|row| (row.uid.clone(), row.container.clone()));
    }

    /// Where the selected row is now.
    fn place(&self, shown: &[Row]) -> Option<usize> {
        let (uid, container) = self.selected.as_ref()?;
        shown.iter().position(|row| row.uid == *uid && row.container == *container)
    }

    /// The rows that the filter leaves, in the order that is set.
    fn shown(&self) -> Vec<Row> {
        let mut shown: Vec<Row> = self.rows.iter().filter(|row| row.contains(&self.filter)).cloned().collect();
        sort(&mut shown, self.order);
        if self.reversed {
            shown.reverse();
        }
        shown
    }

    /// Draws it on the whole frame.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: Timestamp) {
        self.render(frame.area(), frame.buffer_mut(), now);
    }

    fn render(&mut self, area: Rect, buffer: &mut Buffer, now: Timestamp) {
        let shown = self.shown();
        let notes = self.notes();
        self.table.select(self.place(&shown));
        let selected = self.table.selected().unwrap_or(0);
        let parts = [
            Constraint::Length(1),
            Constraint::Min(3),
            Constraint::Length(u16::try_from(notes.len()).unwrap_or(0)),
            Constraint::Length(3),
            Constraint::Length(1),
        ];
        let [head, body, below, detail, foot] = Layout::vertical(parts).areas(area);
        Paragraph::new(self.headline(shown.len(), now))
            .style(Style::new().add_modifier(Modifier::BOLD))
            .render(head, buffer);
        if shown.is_empty() {
            Paragraph::new(self.nothing()).wrap(Wrap { trim: true }).render(body, buffer);
        } else {
            self.draw_table(&shown, body, buffer, now);
        }
        Paragraph::new(notes).style(Style::new().fg(Color::Yellow)).render(below, buffer);
        if let Some(row) = shown.get(selected) {
            Paragraph::new(about(row)).wrap(Wrap { trim: true }).style(dim()).render(detail, buffer);
        }
        Paragraph::new(self.keys()).style(dim()).render(foot, buffer);
    }

    fn headline(&self, shown: usize, now: Timestamp) -> String {
        let recent = Duration::from_secs(1);
        let answering = self.agents - self.silent.len().min(self.agents);
        let age = self.taken.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        let order = if self.reversed { "reversed " } else { "" };
        match age {
            None => "asking the agents …".into(),
            Some(age) => format!(
                "{shown} of {} guarded · {answering} of {} agents answer · by {order}{} · {}",
                self.rows.len(),
                self.agents,
                self.order.as_str(),
                if age < recent { "now".into() } else { format!("{} ago", rough(age)) }
            ),
        }
    }

    fn nothing(&self) -> String {
        match (self.taken, self.rows.is_empty()) {
            (None, _) => String::new(),
            (_, true) => "No guarded containers here. -A shows all namespaces.".into(),
            (_, false) => format!("Nothing matches \"{}\". Esc clears the filter.", printable(&self.filter)),
        }
    }

    fn notes(&self) -> Vec<Line<'static>> {
        let mut notes: Vec<Line<'static>> = self.silent.iter().take(MOST_SILENT).cloned().map(Line::from).collect();
        if self.silent.len() > MOST_SILENT {
            notes.push(format!("… and {} agents more", self.silent.len() - MOST_SILENT).into());
        }
        notes.extend(self.trouble.as_ref().map(|why| Line::from(printable(why))));
        notes
    }

    fn keys(&self) -> Line<'static> {
        if self.editing {
            return Line::from(format!("filter: {}▏  Enter keeps it, Esc clears it", printable(&self.filter)));
        }
        let filter = if self.filter.is_empty() { String::new() } else { format!(" ({})", printable(&self.filter)) };
        Line::from(format!("q quit  s sort  r reverse  / filter{filter}  ↑↓ select"))
    }

    fn draw_table(&mut self, shown: &[Row], area: Rect, buffer: &mut Buffer, now: Timestamp) {
        let columns = columns(shown, area.width, now);
        let head = TableRow::new(columns.iter().map(|c| c.title)).style(dim());
        let body = shown.iter().map(|row| {
            let text = |c: &Column| middle((c.cell)(row, now, c.width), c.width.into());
            let cells = columns.iter().map(|c| Cell::from(Span::styled(text(c), style(row, c))));
            TableRow::new(cells)
        });
        let widths = columns.iter().map(|c| Constraint::Length(c.width));
        let table =
            Table::new(body, widths).header(head).column_spacing(1).row_highlight_style(Style::new().reversed());
        StatefulWidget::render(table, area, buffer, &mut self.table);
    }
}

/// The selected row in whole sentences.
fn about(row: &Row) -> Vec<Line<'static>> {
    let container = row.container.as_ref().map_or_else(String::new, |c| format!(" container {}", printable(c)));
    let threshold = row.threshold_text.as_ref().map_or_else(String::new, |t| format!(", threshold {}", printable(t)));
    let room = row.room.map_or_else(String::new, |r| format!(", room {}", crate::ground::units::Bytes(r)));
    let last = row.last_eviction_note.as_ref().map_or_else(String::new, |note| format!(" Last: {}", printable(note)));
    vec![
        Line::from(format!(
            "{}{container} on {}: {}{threshold}{room}",
            row.full_name(),
            printable(&row.node),
            row.amounts()
        )),
        Line::from(format!("{}: {}.{last}", printable(row.state.as_str()), printable(&row.why))),
    ]
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// One column: what is in it, how wide it is.
struct Column {
    title: &'static str,
    cell: CellText,
    width: u16,
}

/// What a row has in a column of a width.
type CellText = fn(&Row, Timestamp, u16) -> String;

/// The columns in their order, with how readily each is left out (0: never) and its greatest width.
const COLUMNS: [(&str, CellText, u8, u16); 12] = [
    ("NAMESPACE", |r, _, _| printable(&r.namespace), 3, 20),
    ("POD", |r, _, _| printable(&r.pod), 0, 40),
    ("CONTAINER", |r, _, _| r.container_cell(), 0, 16),
    ("NODE", |r, _, _| printable(&r.node), 4, 24),
    ("SIGNAL", |r, _, _| r.signal.as_deref().map_or_else(|| "-".into(), printable), 7, 13),
    ("USAGE", |r, _, width| bar(r, width.into()), 0, 16),
    ("", |r, _, _| r.share(), 0, 5),
    ("NOW/THRESHOLD/LIMIT", |r, _, _| r.amounts(), 5, 26),
    ("GROWTH", |r, _, _| r.growth_cell(), 2, 12),
    ("OVER IN", |r, _, _| r.to_threshold_cell(), 0, 7),
    ("STATE", |r, _, _| printable(r.state.as_str()), 0, 12),
    ("LAST EVICTION", |r, now, _| r.last_eviction_cell(now), 6, 13),
];
/// What is cut where no column can be left out any more, in this order, and how far.
const NARROWEST: [(&str, u16); 4] = [("POD", 14), ("USAGE", 6), ("CONTAINER", 6), ("POD", 5)];

/// As many columns as fit; then those that are left are cut.
fn columns(shown: &[Row], width: u16, now: Timestamp) -> Vec<Column> {
    let mut all: Vec<(u8, Column)> = COLUMNS
        .into_iter()
        .map(|(title, cell, readily, most)| {
            let widest = |n: usize, row: &Row| n.max(cell(row, now, most).width());
            let needed = shown.iter().fold(title.width(), widest);
            (readily, Column { title, cell, width: u16::try_from(needed).unwrap_or(most).min(most) })
        })
        .collect();
    let too_wide = |all: &[(u8, Column)]| {
        let taken: u32 = all.iter().map(|(_, c)| u32::from(c.width) + 1).sum();
        taken.saturating_sub(u32::from(width) + 1)
    };
    while too_wide(&all) > 0 {
        let first = all.iter().enumerate().max_by_key(|(_, (readily, _))| *readily);
        match first {
            Some((at, (1.., _))) => drop(all.remove(at)),
            _ => break,
        }
    }
    for (title, least) in NARROWEST {
        let over = u16::try_from(too_wide(&all)).unwrap_or(u16::MAX);
        if let Some((_, column)) = all.iter_mut().find(|(_, c)| c.title == title) {
            column.width = column.width.saturating_sub(over).max(least.min(column.width));
        }
    }
    all.into_iter().map(|(_, column)| column).collect()
}

/// A text that is too wide without its middle: names of pods differ in their ends.
fn middle(text: String, width: usize) -> String {
    if text.width() <= width || width < 3 {
        return text;
    }
    let end = (width - 1) / 2;
    let fits = |most: usize, c: &char, taken: &mut usize| {
        *taken += c.width().unwrap_or(0);
        *taken <= most
    };
    let (mut left, mut right) = (0, 0);
    let head: String = text.chars().take_while(|c| fits(width - 1 - end, c, &mut left)).collect();
    let tail: Vec<char> = text.chars().rev().take_while(|c| fits(end, c, &mut right)).collect();
    head.chars().chain(['…']).chain(tail.into_iter().rev()).collect()
}

fn style(row: &Row, column: &Column) -> Style {
    let near = row.nearness();
    match column.title {
        "USAGE" | "" | "OVER IN" if near > 1.0 => Style::new().fg(Color::Red),
        "USAGE" | "" if near > 0.8 => Style::new().fg(Color::Yellow),
        "STATE" if !row.quiet() => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

/// Looks and draws until it is told to stop.
///
/// # Errors
/// When the terminal cannot be used.
pub async fn watch(client: Client, query: Query, interval: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut keys = keys()?;
    let mut terminal = ratatui::try_init()?;
    let mut view = View::default();
    let (told, mut surveys) = mpsc::channel(1);
    let looking = tokio::spawn({
        let query = query.clone();
        async move {
            let (mut events, mut events_at) = (Ok(Vec::new()), None);
            loop {
                if events_at.is_none_or(|at: tokio::time::Instant| at.elapsed() >= EVENTS_EACH) {
                    (events, events_at) = (ended(&client, &query).await, Some(tokio::time::Instant::now()));
                }
                let survey = agents_alone(&client, &query).await;
                let survey = survey.map(|survey| Survey { ended: events.clone(), ..survey });
                if told.send(survey).await.is_err() {
                    break;
                }
                tokio::time::sleep(interval).await;
            }
        }
    });
    // The age of what is shown goes on, too.
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let result = loop {
        if let Err(error) = terminal.draw(|frame| view.draw(frame, Timestamp::now())) {
            break Err(error.into());
        }
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if view.key(key) == Ask::Quit {
                        break Ok(());
                    }
                }
                Some(_) => {}
                None => break Ok(()),
            },
            Some(result) = surveys.recv() => match result {
                Ok(survey) => view.take(&survey, &query, Timestamp::now()),
                Err(error) => view.fail(format!("{error:#}")),
            },
            _ = second.tick() => {}
        }
    };
    looking.abort();
    ratatui::try_restore()?;
    result
}

/// A thread that waits for keys; it ends with the process.
fn keys() -> io::Result<mpsc::Receiver<Event>> {
    let (pressed, keys) = mpsc::channel(KEYS);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if pressed.blocking_send(event).is_err() {
                break;
            }
        }
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(middle("web-7d9c5b8f6c-x39".into(), 11), "web-7…c-x39");
        assert_eq!(middle("web".into(), 3), "web");
        assert_eq!(middle("日本語日本語".into(), 7), "日…語");
        assert_eq!(middle("long".into(), 2), "long");
    }
}
