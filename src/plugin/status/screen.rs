//! What the live view shows, and how it obeys keys; see [`super::watch`] for what feeds it.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, StatefulWidget, Table, TableState, Widget, Wrap};

use super::columns::{Column, Fitted, fitted};
use super::rows::{Row, SortBy, rows, sort};
use super::survey::Survey;
use super::table::evictions_unknown;
use crate::ground::durations::rough;
use crate::ground::units::Bytes;
use crate::plugin::agents::query::Query;
use crate::plugin::agents::told::silent;
use crate::plugin::sanitize::printable;

/// Lines for agents that do not answer; the rest are counted.
const MOST_SILENT: usize = 3;
/// A longer filter finds nothing more.
const LONGEST_FILTER: usize = 64;
/// Rows that a page key moves by.
const PAGE: isize = 10;

/// The rows and what the user does with them.
#[derive(Debug, Default)]
pub struct Screen {
    rows: Vec<Row>,
    silent: Vec<String>,
    agents: usize,
    taken: Option<Timestamp>,
    /// Why the last survey failed, in which case the rows are those of the one before; or what is missing in it.
    failure: Option<String>,
    sort_by: SortBy,
    reversed: bool,
    filter: String,
    /// Keys go to the filter.
    editing: bool,
    /// Uid and container of the row that is selected: it stays selected when rows change their places.
    selected: Option<(String, Option<String>)>,
    table: TableState,
}

/// What a key asks for beyond the screen itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEffect {
    Stay,
    Quit,
}

impl Screen {
    pub fn show(&mut self, survey: &Survey, query: &Query, now: Timestamp) {
        self.rows = rows(survey, query);
        self.silent = silent(&survey.agents, query);
        self.agents = survey.agents.len();
        self.taken = Some(now);
        self.failure = survey.evictions.as_ref().err().map(|why| evictions_unknown(why));
    }

    /// Shows why there is no survey.
    pub fn fail(&mut self, why: &str) {
        self.failure = Some(printable(why));
    }

    pub fn key(&mut self, key: KeyEvent) -> KeyEffect {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return KeyEffect::Quit;
        }
        if self.editing {
            self.edit_filter(key.code, control);
            return KeyEffect::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return KeyEffect::Quit,
            KeyCode::Esc if self.filter.is_empty() => return KeyEffect::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char('s') => {
                self.sort_by = self.sort_by.next();
                self.selected = None;
            }
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(PAGE),
            KeyCode::PageUp => self.step(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            _ => {}
        }
        KeyEffect::Stay
    }

    fn edit_filter(&mut self, code: KeyCode, control: bool) {
        match code {
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

    /// The rows that match the filter, sorted.
    fn shown(&self) -> Vec<Row> {
        let mut shown: Vec<Row> = self.rows.iter().filter(|row| row.contains(&self.filter)).cloned().collect();
        sort(&mut shown, self.sort_by);
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
        let reversed = if self.reversed { "reversed " } else { "" };
        match age {
            None => "asking the agents …".into(),
            Some(age) => format!(
                "{shown} of {} guarded · {answering} of {} agents answer · by {reversed}{} · {}",
                self.rows.len(),
                self.agents,
                self.sort_by.as_str(),
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
            notes.push(format!("… and {} more agents", self.silent.len() - MOST_SILENT).into());
        }
        notes.extend(self.failure.clone().map(Line::from));
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
        let columns = fitted(shown, area.width, now);
        let head = TableRow::new(columns.iter().map(|fitted| fitted.column.title)).style(dim());
        let body = shown.iter().map(|row| {
            let cell = |fitted: &Fitted| Span::styled(fitted.cell(row, now), style(row, &fitted.column));
            TableRow::new(columns.iter().map(|fitted| Cell::from(cell(fitted))))
        });
        let widths = columns.iter().map(|fitted| Constraint::Length(fitted.width));
        let table =
            Table::new(body, widths).header(head).column_spacing(1).row_highlight_style(Style::new().reversed());
        StatefulWidget::render(table, area, buffer, &mut self.table);
    }
}

/// The selected row in whole sentences.
fn about(row: &Row) -> Vec<Line<'static>> {
    let container = row.container.as_ref().map_or_else(String::new, |c| format!(" container {}", printable(c)));
    let threshold = row.threshold_text.as_ref().map_or_else(String::new, |t| format!(", threshold {}", printable(t)));
    let room = row.room.map_or_else(String::new, |room| format!(", {} left", Bytes(room)));
    let last = row.last_eviction_note.as_ref();
    let last = last.map_or_else(String::new, |note| format!(" Last eviction: {}", printable(note)));
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

fn style(row: &Row, column: &Column) -> Style {
    let near = row.nearness();
    match column.title {
        "USAGE" | "" | "OVER IN" if near > 1.0 => Style::new().fg(Color::Red),
        "USAGE" | "" if near > 0.8 => Style::new().fg(Color::Yellow),
        "STATE" if !row.quiet() => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}
