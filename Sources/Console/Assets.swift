/// What pages are dressed in.
///
/// Whole in the program: nothing is asked for from anywhere else.
enum Assets {
    static let icon = """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#2f5d50"/>
        <path d="M4 11V8m4 3V4m4 7V6" stroke="#fff" stroke-width="2" stroke-linecap="round"/></svg>
        """

    /// Live updates: everything with `data-live` is replaced by what that address says, every two seconds, as long as someone
    /// looks.
    ///
    /// Without it the pages are the same, as they were when they were loaded.
    static let script = """
        "use strict";
        for (const box of document.querySelectorAll("[data-live]")) {
          let isAsking = false;
          const update = async () => {
            if (document.hidden || isAsking || box.contains(document.activeElement)) return;
            isAsking = true;
            try {
              const answer = await fetch(box.dataset.live, { credentials: "same-origin" });
              if (answer.status === 403) location.reload();
              else if (answer.ok) box.innerHTML = await answer.text();
              box.classList.toggle("stale", !answer.ok);
            } catch {
              box.classList.add("stale");
            } finally {
              isAsking = false;
            }
          };
          setInterval(update, 2000);
          document.addEventListener("visibilitychange", update);
        }

        """

    static let style = """
        :root {
          --ground: #fbfbf9; --raised: #fff; --ink: #1d2321; --soft: #59625e; --line: #dcdfda; --accent: #2f5d50;
          --call: #9a3412; --call-ground: #fdf1ea; --k0: #2f5d50; --k1: #8a6d1d; --k2: #35618f; --k3: #9a3412; --k4: #7a2e6e;
          color-scheme: light dark;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --ground: #161a19; --raised: #1e2322; --ink: #e6e9e7; --soft: #a3ada8; --line: #343b38; --accent: #8cc7b3;
            --call: #f3a37c; --call-ground: #33231b; --k0: #8cc7b3; --k1: #d9b95c; --k2: #8fb8e0; --k3: #f3a37c; --k4: #d79acb;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0 auto; padding: 0 1.25rem 3rem; max-width: 76rem; background: var(--ground); color: var(--ink);
          font: 1rem/1.55 system-ui, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
        }
        header { display: flex; flex-wrap: wrap; gap: .75rem 1.5rem; align-items: center; padding: 1.25rem 0; border-bottom: 1px solid var(--line); }
        header nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-right: auto; }
        nav a { color: var(--soft); text-decoration: none; padding: .35rem 0; border-bottom: 2px solid transparent; }
        nav a:hover { color: var(--ink); }
        nav a[aria-current] { color: var(--ink); border-color: var(--accent); }
        header form { display: flex; gap: .5rem; align-items: center; }
        header label { color: var(--soft); font-size: .875rem; white-space: nowrap; }
        header input { width: 11rem; }
        h1 { font-size: 1.75rem; font-weight: 600; line-height: 1.25; margin: 2rem 0 1rem; }
        h2 { font-size: 1.125rem; font-weight: 600; margin: 2.5rem 0 1rem; }
        h3 { font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .5rem; }
        a { color: var(--accent); text-underline-offset: .15em; }
        .lead { max-width: 46rem; font-size: 1.0625rem; margin: 0 0 1.25rem; }
        .hint, small, footer, time { color: var(--soft); font-size: .875rem; }
        .hint { max-width: 46rem; margin: .5rem 0; }
        footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
        .skip { position: absolute; left: -99rem; }
        .skip:focus { left: 1rem; top: 1rem; background: var(--raised); padding: .5rem 1rem; }
        .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
        :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
        .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; list-style: none; padding: 0; margin: 0 0 1.5rem; }
        .cards li { background: var(--raised); border: 1px solid var(--line); border-radius: .625rem; padding: 1rem 1.125rem; display: flex; flex-direction: column; }
        .cards strong { font-size: 2rem; font-weight: 600; line-height: 1.2; }
        .cards small { margin-top: .35rem; }
        .cards li.calls { border-color: var(--call); background: var(--call-ground); }
        .cards li.calls strong { color: var(--call); }
        .calls { color: var(--call); }
        .cards li.calls, .cards li.calls a { color: var(--ink); }
        .fault, .note, .news, .empty { border: 1px solid var(--line); border-radius: .625rem; padding: .875rem 1.125rem; background: var(--raised); margin: 1rem 0; max-width: 60rem; }
        .fault, p.calls.note { border-color: var(--call); background: var(--call-ground); color: var(--ink); }
        .empty { color: var(--soft); border-style: dashed; background: none; }
        .news { border-color: var(--accent); }
        .news p { margin: .15rem 0; }
        .stale { opacity: .55; }
        figure { margin: 1.5rem 0 0; }
        svg { display: block; width: 100%; height: auto; }
        svg text { fill: var(--soft); font-size: 9px; }
        .grid { stroke: var(--line); }
        .line { fill: none; stroke-width: 2; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
        .line.kind-0 { stroke: var(--k0); } .line.kind-1 { stroke: var(--k1); } .line.kind-2 { stroke: var(--k2); }
        .line.kind-3 { stroke: var(--k3); } .line.kind-4 { stroke: var(--k4); }
        .legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .5rem 0; font-size: .875rem; }
        .legend i { display: inline-block; width: 1rem; height: .2rem; margin-right: .5rem; vertical-align: middle; border-radius: 1px; }
        i.kind-0 { background: var(--k0); } i.kind-1 { background: var(--k1); } i.kind-2 { background: var(--k2); }
        i.kind-3 { background: var(--k3); } i.kind-4 { background: var(--k4); }
        .share label { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; }
        meter { width: 16rem; max-width: 100%; }
        .table { overflow-x: auto; border: 1px solid var(--line); border-radius: .625rem; background: var(--raised); margin: .75rem 0; }
        table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
        th, td { text-align: left; vertical-align: top; padding: .625rem 1rem; border-bottom: 1px solid var(--line); }
        tbody tr:last-child td { border-bottom: 0; }
        th { font-weight: 600; color: var(--soft); font-size: .8125rem; white-space: nowrap; }
        td { min-width: 4rem; max-width: 30rem; }
        dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .5rem 1.5rem; margin: 0 0 1rem; }
        dt { color: var(--soft); } dd { margin: 0; } dd ul { margin: 0; padding-left: 1.1rem; }
        pre { background: var(--raised); border: 1px solid var(--line); border-radius: .625rem; padding: 1rem; white-space: pre-wrap; max-height: 28rem; overflow: auto; font: inherit; font-size: .9375rem; }
        code { font: inherit; background: var(--raised); border: 1px solid var(--line); border-radius: .25rem; padding: 0 .25rem; }
        input, textarea, button, .button { font: inherit; color: inherit; border: 1px solid var(--soft); border-radius: .4375rem; padding: .4375rem .75rem; background: var(--raised); min-height: 2.5rem; max-width: 100%; }
        input[type=checkbox] { width: 1.25rem; min-height: 1.25rem; height: 1.25rem; accent-color: var(--accent); margin: 0; }
        textarea { width: 100%; resize: vertical; }
        ::placeholder { color: var(--soft); opacity: 1; }
        button, .button { cursor: pointer; text-decoration: none; display: inline-flex; align-items: center; }
        button:hover, .button:hover { border-color: var(--ink); }
        .primary { background: var(--accent); border-color: var(--accent); color: var(--ground); }
        .danger { background: var(--call); border-color: var(--call); color: var(--ground); }
        .quiet { border-color: transparent; color: var(--soft); }
        .filter, .orders { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: end; margin: 1rem 0; }
        .filter div { display: flex; flex-direction: column; gap: .25rem; }
        .filter label, .orders label { font-size: .875rem; color: var(--soft); }
        .orders form { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
        .acts { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: center; margin: 1.25rem 0; }
        .narrow { max-width: 46rem; }
        .plan { max-width: 46rem; padding-left: 1.1rem; }
        .plan li { margin: .35rem 0; }
        .consent { display: flex; gap: .75rem; align-items: center; border: 1px solid var(--call); border-radius: .625rem; padding: .875rem 1.125rem; max-width: 46rem; background: var(--call-ground); }
        .story { padding-left: 1.25rem; } .story li { margin: .35rem 0; }
        .pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; list-style: none; padding: 0; }
        .pictures a { display: block; font-size: .875rem; }
        .pictures img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--raised); border: 1px solid var(--line); border-radius: .625rem; margin-bottom: .35rem; }
        .correct { max-width: 46rem; }
        .field { margin: 1.25rem 0; } .field label { display: block; font-weight: 600; margin-bottom: .35rem; } .field input { width: 100%; }
        .field p { margin: .25rem 0; } .wrong { color: var(--call); }
        [aria-invalid] { border-color: var(--call); border-width: 2px; }
        .login { max-width: 22rem; margin: 15vh auto 0; }
        .login form { display: grid; gap: .75rem; }
        th.number, td.number { text-align: right; }
        @media (max-width: 40rem) {
          svg text { font-size: 18px; }
          td.number { text-align: left; }
          header form[role=search] { width: 100%; } header input { flex: 1; width: auto; }
          .filter div, .filter input, .filter button { width: 100%; }
          .table { border: 0; background: none; overflow: visible; }
          thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
          table, tbody, tr, td { display: block; }
          tr { border: 1px solid var(--line); border-radius: .625rem; background: var(--raised); padding: .5rem 1rem; margin: .75rem 0; }
          td { display: grid; grid-template-columns: 6.5rem 1fr; gap: .75rem; padding: .3rem 0; border: 0; max-width: none; }
          td::before { content: attr(data-label); color: var(--soft); font-size: .8125rem; }
          dl { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .6rem; }
        }
        @media (prefers-reduced-motion: no-preference) { nav a, button, .button { transition: border-color .15s, color .15s; } }

        """
}
