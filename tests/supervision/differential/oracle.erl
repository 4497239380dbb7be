%% Runs a script of supervisor commands against Erlang/OTP's own supervisor and prints the trace.
%% One script a line on standard input, as an Erlang term; one trace a line on standard output, as JSON.
%% The script and the trace are described in script.py; erlang.py starts this and talks to it.
-module(oracle).
-behaviour(supervisor).
-export([main/0, init/1, start_worker/2, start_nested/2, start_simple/3, worker/4]).

main() ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    io:setopts([{encoding, utf8}]),
    loop().

loop() ->
    case io:read("") of
        eof -> halt(0);
        {ok, Script} -> io:format("~ts~n", [json(run(Script))]), loop()
    end.

%% One script

run(#{supervisor := Spec, commands := Commands}) ->
    Recorder = spawn(fun() -> recorder([], #{}, #{}) end),
    register(recorder, Recorder),
    Started = (catch supervisor:start_link(?MODULE, {[], Spec})),
    Trace = case Started of
        {ok, Top} ->
            put(top, Top),
            monitor(process, Top),
            settle(),
            Results = commands(Commands),
            Exit = exit_reason(),
            Children = case Exit of null -> nested_children(Top); _ -> [] end,
            #{start => ok, results => Results, children => Children, exit => Exit};
        ignore -> #{start => ignore, results => [], children => [], exit => flush_exit()};
        {error, Reason} -> _ = flush_exit(), #{start => {error, fault(Reason)}, results => [], children => [], exit => null}
    end,
    stop_top(),
    Recorder ! {events, self()},
    Events = receive {events, E} -> E end,
    unregister(recorder),
    exit(Recorder, kill),
    erase(top), erase(exit),
    flush_all(),
    Trace#{events => Events}.

flush_exit() ->
    receive {'EXIT', _, Reason} -> reason(Reason) after 100 -> null end.

flush_all() -> receive _ -> flush_all() after 0 -> ok end.

stop_top() ->
    case get(top) of
        undefined -> ok;
        Top ->
            exit_reason(),
            case get(exit) of
                undefined -> mute(), unlink(Top), exit(Top, shutdown), wait_dead(Top, 2000);
                _ -> ok
            end
    end.

mute() -> recorder ! {mute, self()}, receive muted -> ok end.

wait_dead(Pid, Patience) ->
    M = monitor(process, Pid),
    receive {'DOWN', M, _, _, _} -> ok after Patience -> exit(Pid, kill) end.

exit_reason() ->
    case get(exit) of
        undefined ->
            Top = get(top),
            receive
                {'EXIT', Top, Reason} -> put(exit, reason(Reason)), get(exit)
            after 0 -> null
            end;
        Known -> Known
    end.

commands([]) -> [];
commands([Command | Rest]) ->
    case exit_reason() of
        null ->
            Result = command(Command),
            settle(),
            [Result | commands(Rest)];
        _ -> [gone | commands(Rest)]
    end.

command({queued, Commands}) ->
    Top = get(top),
    sys:suspend(Top),
    Pending = [queue(C) || C <- Commands],
    sys:resume(Top),
    [collect(P) || P <- Pending];
command({sleep, Milliseconds}) -> timer:sleep(Milliseconds), ok;
command({exit, Path, Reason}) -> make_exit(Path, Reason);
command({stop}) ->
    Top = get(top),
    exit(Top, shutdown),   % a plain process that is no parent would be ignored; we are the parent
    receive {'DOWN', _, process, Top, _} -> ok after 5000 -> hanging end,
    ok;
command({check_childspecs, Specs}) ->
    name_only(supervisor:check_childspecs([spec([], S) || S <- Specs]));
command({change_code, Spec}) ->
    Top = get(top),
    recorder ! {init_is, [], Spec},
    sys:suspend(Top),
    Result = sys:change_code(Top, ?MODULE, undefined, []),
    sys:resume(Top),
    name_only(case Result of {error, {error, _} = Inner} -> Inner; _ -> Result end);
command({at, Path, Command}) ->
    case find(Path) of
        undefined -> noproc;
        Pid -> answer(Command, catch gen_server:call(Pid, request(Path, Command), infinity))
    end;
command(Command) ->
    answer(Command, catch gen_server:call(get(top), request([], Command), infinity)).

queue({exit, Path, Reason}) -> {done, make_exit(Path, Reason)};
queue(Command) -> {Command, gen_server:send_request(get(top), request([], Command))}.

collect({done, Result}) -> Result;
collect({Command, Id}) ->
    case gen_server:wait_response(Id, 10000) of
        {reply, Reply} -> answer(Command, Reply);
        {error, _} -> noproc;
        timeout -> hanging
    end.

request(Path, {start_child, Child}) ->
    case strategy(Path) of
        simple_one_for_one -> {start_child, [Child]};
        _ -> {start_child, spec(Path, Child)}
    end;
request(Path, {terminate_child, Id}) ->
    case strategy(Path) of
        simple_one_for_one ->
            case find(Path ++ [Id]) of undefined -> {terminate_child, Id}; Pid -> {terminate_child, Pid} end;
        _ -> {terminate_child, Id}
    end;
request(_, {which_children}) -> which_children;
request(_, {count_children}) -> count_children;
request(_, {Name, Id}) -> {Name, Id}.

strategy(Path) ->
    recorder ! {strategy, Path, self()},
    receive {strategy, S} -> S end.

answer({which_children}, Children) when is_list(Children) -> children(Children);
answer({count_children}, Counts) when is_list(Counts) -> Counts;
answer({get_childspec, _}, {ok, Spec}) ->
    #{id := Id, restart := R, shutdown := S, type := T, significant := G} = Spec,
    {ok, #{id => Id, restart => R, shutdown => S, type => T, significant => G}};
answer({start_child, _}, {error, {Reason, Child}}) when is_tuple(Child), element(1, Child) =:= child ->
    {error, {start_failed, fault(Reason)}};
answer({start_child, _}, {error, {already_started, _}}) -> {error, {already_started, pid}};
answer({_, _}, {error, {start_failed, Reason}}) -> {error, {start_failed, fault(Reason)}};
answer(_, {error, failed}) -> {error, {start_failed, failed}};
answer(_, {error, {'EXIT', _}}) -> {error, {start_failed, failed}};
answer({start_child, _}, {error, Reason}) when is_atom(Reason) -> {error, Reason};
answer(_, {error, {shutdown, _} = Reason}) -> {error, {start_failed, fault(Reason)}};
answer(_, {error, _} = Error) -> name_only(Error);
answer(_, {ok, undefined}) -> {ok, null};
answer(_, {ok, Pid}) when is_pid(Pid) -> {ok, pid};
answer(_, {ok, Pid, Info}) when is_pid(Pid) -> {ok, pid, Info};
answer(_, {'EXIT', _}) -> noproc;
answer(_, ok) -> ok;
answer(_, Other) -> Other.

name_only({error, Reason}) when is_tuple(Reason) -> {error, element(1, Reason)};
name_only(Other) -> Other.

children(List) -> [child(C) || C <- List].
child({Id, undefined, Type, _}) -> {null(Id), stopped, Type};
child({Id, restarting, Type, _}) -> {null(Id), restarting, Type};
child({Id, Pid, Type, _}) when is_pid(Pid) -> {null(Id), running, Type}.

null(undefined) -> null;
null(Id) -> Id.

nested_children(Pid) ->
    case catch supervisor:which_children(Pid) of
        List when is_list(List) ->
            [case C of
                 {_, P, supervisor, _} when is_pid(P) ->
                     {Id, State, Type} = child(C), {Id, State, Type, nested_children(P)};
                 _ -> child(C)
             end || C <- List];
        _ -> gone
    end.

%% An actor ends by itself

make_exit(Path, Reason) ->
    case find(Path) of
        undefined -> noproc;
        Pid ->
            M = monitor(process, Pid),
            case Reason of
                kill -> exit(Pid, kill);
                _ -> Pid ! {please_exit, Reason}
            end,
            receive {'DOWN', M, _, _, _} -> ok after 5000 -> hanging end
    end.

find(Path) ->
    recorder ! {find, Path, self()},
    receive {found, Pid} -> case is_pid(Pid) andalso is_process_alive(Pid) of true -> Pid; _ -> undefined end end.

%% Wait until nothing is going on: no child is being restarted anywhere, twice in a row

settle() -> settle(undefined, 0).
settle(_, 200) -> ok;
settle(Before, N) ->
    erlang:yield(),
    Now = case exit_reason() of
        null -> {snapshot(get(top)), recorded()};
        Reason -> {Reason, recorded()}
    end,
    case Now =:= Before andalso not has_restarting(Now) of
        true -> ok;
        false -> settle(Now, N + 1)
    end.

recorded() -> recorder ! {count, self()}, receive {count, N} -> N end.

snapshot(Pid) ->
    case catch gen_server:call(Pid, which_children, 5000) of
        List when is_list(List) ->
            [case C of
                 {Id, P, supervisor, _} when is_pid(P) -> {Id, P, snapshot(P)};
                 {Id, P, worker, _} when is_pid(P) -> {Id, P, is_process_alive(P)};
                 {Id, P, _, _} -> {Id, P, down}
             end || C <- List];
        _ -> gone
    end.

has_restarting(T) when is_tuple(T) -> has_restarting(tuple_to_list(T));
has_restarting([H | T]) -> has_restarting(H) orelse has_restarting(T);
has_restarting(restarting) -> true;
has_restarting(_) -> false.

%% Supervisors and workers under test

init({Path, First}) ->
    recorder ! {init, Path, self()},
    Spec = receive {init, undefined} -> First; {init, Changed} -> Changed end,
    recorder ! {strategy_is, Path, maps:get(strategy, Spec, one_for_one)},
    case maps:get(init, Spec, ok) of
        ignore -> ignore;
        crash -> exit(failed);
        ok ->
            Flags = maps:with([strategy, intensity, period, auto_shutdown], Spec),
            Children = case maps:get(strategy, Spec, one_for_one) of
                simple_one_for_one -> [simple(Path, C) || C <- maps:get(children, Spec, [])];
                _ -> [spec(Path, C) || C <- maps:get(children, Spec, [])]
            end,
            {ok, {Flags, Children}}
    end.

spec(Path, Child) when is_map(Child) ->
    Base = maps:with([id, restart, shutdown, type, significant], Child),
    case Child of
        #{nostart := true} -> Base;
        #{id := Id, supervisor := Nested} -> Base#{start => {?MODULE, start_nested, [Path ++ [Id], Nested]}};
        #{id := Id} -> Base#{start => {?MODULE, start_worker, [Path ++ [Id], Child]}};
        _ -> Base#{start => {?MODULE, start_worker, [Path, Child]}}
    end;
spec(_, Other) -> Other.

simple(_, #{nostart := true} = Child) -> maps:with([id, restart, shutdown, type, significant], Child);
simple(Path, Child) when is_map(Child) ->
    (maps:with([id, restart, shutdown, type, significant], Child))#{start => {?MODULE, start_simple, [Path, Child]}};
simple(_, Other) -> Other.

start_nested(Path, Spec) ->
    case supervisor:start_link(?MODULE, {Path, Spec}) of
        {ok, Pid} -> recorder ! {up, Path, Pid, self()}, receive noted -> ok end, {ok, Pid};
        Other -> Other
    end.

start_simple(Path, Template, #{id := Id} = Given) -> start_worker(Path ++ [Id], maps:merge(Template, Given)).

start_worker(Path, Child) ->
    recorder ! {next, Path, maps:get(starts, Child, []), self()},
    Outcome = receive {next, O} -> O end,
    case Outcome of
        ok -> {ok, spawn_worker(Path, Child)};
        info -> {ok, spawn_worker(Path, Child), info};
        ignore -> ignore;
        error -> {error, failed};
        raise -> exit(failed)
    end.

spawn_worker(Path, Child) ->
    Pid = spawn_link(?MODULE, worker, [self(), self(), Path, Child]),
    receive {Pid, ready} -> Pid end.

worker(Parent, Starter, Path, Child) ->
    process_flag(trap_exit, true),
    recorder ! {up, Path, self(), self()},
    receive noted -> ok end,
    Starter ! {self(), ready},
    worker_loop(Parent, maps:get(stop, Child, obey)).

worker_loop(Parent, Stop) ->
    receive
        {please_exit, crash} -> exit(crash);
        {please_exit, Reason} -> exit(Reason);
        {'EXIT', Parent, Reason} ->
            case Stop of
                linger -> worker_loop(Parent, Stop);
                obey -> exit(Reason);
                normal -> exit(normal);
                fail -> exit(failed)
            end
    end.

%% The recorder: who started and ended, in order

recorder(Events, Pids, Counts) ->
    receive
        {mute, From} -> From ! muted, muted(Events);
        {next, Path, Starts, From} ->
            N = maps:get({starts, Path}, Counts, 0),
            Outcome = case N < length(Starts) of true -> lists:nth(N + 1, Starts); false -> ok end,
            From ! {next, Outcome},
            recorder([{start, Path, Outcome} | Events], Pids, Counts#{{starts, Path} => N + 1});
        {up, Path, Pid, From} ->
            monitor(process, Pid),
            From ! noted,
            recorder(Events, Pids#{Path => Pid, Pid => Path}, Counts);
        {'DOWN', _, process, Pid, Reason} ->
            recorder([{exit, maps:get(Pid, Pids), reason(Reason)} | Events], Pids, Counts);
        {find, Path, From} -> From ! {found, maps:get(Path, Pids, undefined)}, recorder(Events, Pids, Counts);
        {init_is, Path, Spec} -> recorder(Events, Pids, Counts#{{init, Path} => Spec});
        {init, Path, From} -> From ! {init, maps:get({init, Path}, Counts, undefined)}, recorder(Events, Pids, Counts);
        {strategy_is, Path, S} -> recorder(Events, Pids, Counts#{{strategy, Path} => S});
        {strategy, Path, From} ->
            From ! {strategy, maps:get({strategy, Path}, Counts, one_for_one)}, recorder(Events, Pids, Counts);
        {count, From} -> From ! {count, length(Events)}, recorder(Events, Pids, Counts);
        {events, From} -> From ! {events, lists:reverse(Events)}, recorder(Events, Pids, Counts)
    end.

muted(Events) ->
    receive
        {events, From} -> From ! {events, lists:reverse(Events)}, muted(Events);
        {up, _, _, From} -> From ! noted, muted(Events);
        {next, _, _, From} -> From ! {next, ok}, muted(Events);
        {init, _, From} -> From ! {init, undefined}, muted(Events);
        _ -> muted(Events)
    end.

%% Reasons and JSON

reason(crash) -> crash;
reason(failed) -> crash;
reason(Reason) -> Reason.

fault({shutdown, {failed_to_start_child, Id, Reason}}) -> {failed_to_start_child, Id, fault(Reason)};
fault({start_spec, Fault}) -> fault_name(Fault);
fault({supervisor_data, Fault}) -> fault_name(Fault);
fault({bad_start_spec, _}) -> bad_start_spec;
fault({bad_return, _}) -> failed;
fault({'EXIT', Reason}) -> fault(Reason);
fault(Reason) -> Reason.

fault_name(Fault) when is_tuple(Fault) -> element(1, Fault);
fault_name(Fault) -> Fault.

json(null) -> "null";
json(true) -> "true";
json(false) -> "false";
json(A) when is_atom(A) -> io_lib:format("\"~ts\"", [atom_to_list(A)]);
json(N) when is_integer(N) -> integer_to_list(N);
json(M) when is_map(M) ->
    ["{", lists:join(",", [[json(K), ":", json(V)] || {K, V} <- maps:to_list(M)]), "}"];
json(T) when is_tuple(T) -> json(tuple_to_list(T));
json(L) when is_list(L) -> ["[", lists:join(",", [json(E) || E <- L]), "]"];
json(P) when is_pid(P) -> "\"pid\"".
