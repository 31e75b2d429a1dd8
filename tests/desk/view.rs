//! The live view on a terminal in memory: what it shows, and what its keys do.

use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::status::screen::{KeyEffect, Screen};
use pre_oom_killer::plugin::status::survey::Survey;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::cluster::{Cluster, now};
use crate::{all, asked, snapshot};

fn shown(view: &mut Screen, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame, now())).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells = buffer.content().iter().flat_map(|cell| cell.symbol().chars());
    assert_eq!(cells.clone().find(|c| c.is_control()), None, "no control character reaches the terminal");
    terminal.backend().to_string()
}

fn press(view: &mut Screen, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        };
        assert_eq!(view.key(KeyEvent::new(code, KeyModifiers::NONE)), KeyEffect::Stay, "{c:?}");
    }
}

fn view(survey: &Survey) -> Screen {
    let mut view = Screen::default();
    view.show(survey, &Query::default(), now());
    view
}

#[tokio::test]
async fn the_view() {
    let cluster = Cluster::start();
    let survey = asked(&cluster, &all()).await;

    snapshot("watch-before", &shown(&mut Screen::default(), (80, 12)));
    snapshot("watch-160x16", &shown(&mut view(&survey), (160, 16)));
    snapshot("watch-80x24", &shown(&mut view(&survey), (80, 24)));
    snapshot("watch-40x12", &shown(&mut view(&survey), (40, 12)));
    shown(&mut view(&survey), (1, 1));

    let mut sorted = view(&survey);
    press(&mut sorted, "ss");
    snapshot("watch-by-name", &shown(&mut sorted, (120, 16)));
    press(&mut sorted, "r");
    assert!(shown(&mut sorted, (120, 16)).contains("by reversed name"));

    let mut filtered = view(&survey);
    press(&mut filtered, "/SHOPq\x08");
    snapshot("watch-filtering", &shown(&mut filtered, (120, 16)));
    press(&mut filtered, "\njj");
    snapshot("watch-filtered", &shown(&mut filtered, (120, 16)));
    press(&mut filtered, "\x1b/nothing like it\n");
    snapshot("watch-nothing-matches", &shown(&mut filtered, (80, 12)));

    // The selected row stays selected when other rows move before it.
    let mut selected = view(&survey);
    press(&mut selected, "jr");
    assert!(
        shown(&mut selected, (120, 16)).contains("batch/train-1 container main on node-b"),
        "the second of those that are nearest"
    );

    let mut failed = view(&survey);
    failed.fail("the API server did not answer within 5s");
    assert!(shown(&mut failed, (120, 20)).contains("did not answer"));
}

#[test]
fn it_ends_on_q_escape_and_control_c() {
    let key = |code, modifiers| Screen::default().key(KeyEvent::new(code, modifiers));
    assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), KeyEffect::Quit);
    assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), KeyEffect::Quit);
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), KeyEffect::Quit);
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), KeyEffect::Stay);
}
