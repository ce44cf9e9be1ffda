# The supervisor of one run of a unit: a process of its own, which starts the job's script, watches over its limits,
# takes commands from a FIFO, ends what the script leaves, and writes the end into the journal. It does not need the
# runner that has started it.

sub unit_name { my ($job, $key) = @_; return $job->{f}{id} . ($key eq "" ? "" : "_$key") }
sub unit_line { my ($job, $key, $unit) = @_;
  return line("unit", { %$unit, id => $job->{f}{id}, runs => $job->{runs}{$key} || 0, $key eq "" ? () : (els => $key) }) }

# Starts the unit. The journal knows the supervisor before it starts anything: it waits for a word through a pipe.
sub start_unit {
  my ($job, $key, $leave) = @_;
  my $name = unit_name($job, $key);
  my $fifo = "run/$name";
  unlink $fifo;
  POSIX::mkfifo($fifo, 0600) or state_failed("Cannot make the FIFO $fifo");
  sysopen my $orders, $fifo, O_RDWR | O_NONBLOCK or state_failed("Cannot open the FIFO $fifo");
  pipe my $release, my $word or state_failed("Cannot make a pipe");
  defined(my $pid = fork) or state_failed("Cannot start a process");
  unless ($pid) {
    close $word;
    $leave->();
    eval { supervise($job, $key, $orders, $release) };
    POSIX::_exit(0);
  }
  close $release;
  my $unit = { state => "RUNNING", start => time, sup => identity($pid), boot => boot_id() };
  record(unit_line($job, $key, $unit));
  syswrite $word, "go";
}

sub supervise {
  my ($job, $key, $orders, $release) = @_;
  my $name = unit_name($job, $key);
  POSIX::setsid();
  call_itself("fc-job-$name");
  my $go = sysread $release, my $word, 2;
  my $unit = locked(sub { my $j = job_of($job->{f}{id}); $j ? $j->{units}{$key} : undef });
  # the runner has been killed before it could write down that the job starts
  return unless $unit and $unit->{sup} and $unit->{sup} eq identity($$);
  my %run = (job => $job, key => $key, name => $name, unit => { %$unit }, orders => $orders, slept => 0, most => 0,
    mark => "$name-$unit->{sup}", limit => $job->{f}{limit}, cause => "");
  $SIG{CHLD} = sub { };
  # orders come through the FIFO: this signal is that of a machine that shuts down
  $SIG{TERM} = sub { stop_run(\%run, "shutdown") };
  $SIG{HUP} = $SIG{PIPE} = $SIG{INT} = "IGNORE";
  $run{adopts} = adopt_orphans();
  $run{list} = sub { my %all = map { $_ => 1 } descendants($$), $run{adopts} ? () : marked($run{mark}); return keys %all };
  start_script(\%run);
  watch(\%run);
  kill_all(sub { $run{list}->(), marked($run{mark}) }, sub { reap(\%run) });
  finish(\%run);
}

sub start_script {
  my ($run) = @_;
  pipe my $trouble, my $report or die "pipe: $!";
  $run->{begin} = uptime();
  my $pid = fork;
  unless (defined $pid) { $run->{trouble} = "Cannot start a process: $!"; return }
  if ($pid) { close $report; @$run{qw(pid report)} = ($pid, $trouble); return }
  my $text = eval { become_script($run); 1 } ? "" : ref $@ ? $@->{text} : "$@";
  syswrite $report, $text;
  POSIX::_exit(127);
}

# Everything that may block or fail happens in the job's own process.
sub become_script {
  my ($run) = @_;
  my $f = $run->{job}{f};
  POSIX::setsid();
  $SIG{$_} = "DEFAULT" for grep { defined $SIG{$_} } keys %SIG;
  my $script = "$config{folder}/files/$f->{id}.script";
  my %env = map { split /=/, $_, 2 } grep { /^[^=]+=/ } split /\0/, slurp("files/$f->{id}.env");
  for (grep { /^FLAMECREST_ENV_/ } keys %env) { my $value = delete $env{$_}; $env{substr $_, 15} = $value }
  my ($id, $el) = ($f->{id}, $run->{key});
  %env = (%env, FLAMECREST_JOB_ID => $run->{name}, FLAMECREST_JOB_NAME => $f->{name}, FLAMECREST_CPUS => $f->{cpus},
    FLAMECREST_RUN => $run->{mark}, FLAMECREST_RESTARTS => $run->{job}{runs}{$el} || 0);
  $env{FLAMECREST_TASKS} = $f->{tasks} if $f->{tasks};
  $env{FLAMECREST_MEMORY} = $f->{mem} if $f->{mem};
  @env{qw(FLAMECREST_ARRAY_JOB_ID FLAMECREST_ARRAY_INDEX)} = ($id, $el) if $el ne "";
  $env{OMP_NUM_THREADS} = $f->{threads} || 1 unless defined $env{OMP_NUM_THREADS};
  chdir $f->{dir} or fail("", "Cannot enter the working directory $f->{dir}: $!");
  $env{PWD} = $f->{dir};
  umask oct $f->{umask};
  my ($in, $out, $err) = job_files($run->{job}, $el);
  my $how = O_WRONLY | O_CREAT | ($run->{job}{runs}{$el} ? O_APPEND : O_TRUNC);
  reopen(0, $in, O_RDONLY);
  reopen(1, $out, $how);
  $err eq $out ? POSIX::dup2(1, 2) : reopen(2, $err, $how);
  %ENV = %env;
  no warnings;
  exec { $script } $script;
  my $error = $!;
  # a file system that no program may be executed from
  if ($!{EACCES} and slurp($script) =~ /^#![ \t]*(\S+)(?:[ \t]+(\S[^\n]*))?/) { exec { $1 } $1, defined $2 ? $2 : (), $script }
  fail("", "Cannot execute the script: $error");
}

sub reopen {
  my ($number, $path, $how) = @_;
  my $fd = POSIX::open($path, $how, 0666);
  defined $fd or fail("", "Cannot open $path: $!");
  if ($fd != $number) { POSIX::dup2($fd, $number); POSIX::close($fd) }
}

# The files of a unit, with the patterns in their names replaced.
sub job_files {
  my ($job, $key) = @_;
  my $f = $job->{f};
  my $id = $f->{id} . ($key eq "" ? "" : "_$key");
  (my $base = $f->{name}) =~ s{/}{_}g;
  my %value = (j => $id, J => $id, A => $f->{id}, a => $key eq "" ? 0 : $key, x => $base, u => $f->{user}, n => 0, t => 0,
    s => "batch", N => $f->{host}, "%" => "%");
  my @files = map {
    my $path = $_;
    my $count = index($path, "\\") >= 0 ? $path =~ s/\\(.?)/$1/gs :
      $path =~ s/%([0-9]*)([%A-Za-z])/replaced($&, $1, $2, \%value)/ge;
    $path =~ m{^/} ? $path : "$f->{dir}/$path";
  } ($f->{in} || "/dev/null", $f->{out} || ($key eq "" ? "job-%j.out" : "job-%A_%a.out"));
  my $err = defined $f->{err} ? job_files_of($job, $key, $f->{err}) : $files[1];
  return (@files, $err);
}
sub job_files_of { my ($job, $key, $path) = @_; my $copy = { %$job, f => { %{$job->{f}}, out => $path, err => undef } };
  return (job_files($copy, $key))[1] }
sub replaced {
  my ($all, $width, $letter, $value) = @_;
  my $text = $value->{$letter};
  return $all unless defined $text;
  return $text if $letter =~ /[Nsux%]/ or $width eq "";
  $width = 10 if $width > 10;
  return length $text < $width ? "0" x ($width - length $text) . $text : $text;
}

sub watch {
  my ($run) = @_;
  while (1) {
    reap($run);
    last unless defined $run->{pid};
    my $ran = uptime() - $run->{begin} - $run->{slept};
    my $frozen = defined $run->{suspended};
    if ($run->{limit} and not $run->{cause} and not $frozen) {
      if ($ran >= $run->{limit}) { stop_run($run, "timeout") }
      elsif ($run->{job}{f}{warn} and not $run->{warned} and $ran >= $run->{limit} - $run->{job}{f}{before}) {
        $run->{warned} = 1;
        signal_all($run->{job}{f}{warn}, $run->{list});
      }
    }
    if ($run->{cause} and uptime() >= $run->{kill_at}) { kill_all($run->{list}, sub { reap($run) }); next }
    measure($run) unless $frozen;
    my $bits = "";
    vec($bits, fileno $run->{orders}, 1) = 1;
    my $wait = 1;
    if ($run->{limit} and not $run->{cause}) { my $left = $run->{limit} - $ran; $wait = $left if $left < 1; $wait = 0 if $left < 0 }
    if (select $bits, undef, undef, $wait) { obey($run) if vec $bits, fileno $run->{orders}, 1 }
  }
}

sub reap {
  my ($run) = @_;
  while ((my $pid = waitpid -1, POSIX::WNOHANG()) > 0) {
    next unless defined $run->{pid} and $pid == $run->{pid};
    $run->{status} = $?;
    undef $run->{pid};
  }
}

sub measure {
  my ($run) = @_;
  my $most = $run->{job}{f}{mem};
  my $now = memory_of($most || 1e12, $run->{list}->());
  $run->{most} = $now if $now > $run->{most};
  if ($most and $now > $most and $run->{cause} ne "memory") { $run->{cause} = "memory"; $run->{kill_at} = 0 }
}

# Ends the script: a signal first, and after a while by force.
sub stop_run {
  my ($run, $cause, $signal) = @_;
  return if $run->{cause};
  $run->{cause} = $cause;
  $run->{kill_at} = uptime() + $config{kill_wait};
  signal_all($signal || "TERM", $run->{list});
  signal_all("CONT", $run->{list});
}

sub obey {
  my ($run) = @_;
  sysread $run->{orders}, my $text, 65536 or return;
  for (split /\n/, $text) {
    my ($verb, $value) = split / /;
    if ($verb eq "cancel" or $verb eq "requeue") { stop_run($run, $verb, $value) }
    elsif ($verb eq "signal") { signal_all($value, $run->{list}) }
    elsif ($verb eq "limit") { $run->{limit} = $value }
    elsif ($verb eq "suspend" and not defined $run->{suspended}) {
      $run->{suspended} = uptime();
      signal_all("STOP", $run->{list});
    }
    elsif ($verb eq "resume" and defined $run->{suspended}) {
      $run->{slept} += uptime() - delete $run->{suspended};
      signal_all("CONT", $run->{list});
    }
  }
}

my %FINAL = (cancel => ["CANCELLED", undef], timeout => ["TIMEOUT", "TimeLimit"], memory => ["OUT_OF_MEMORY", "OutOfMemory"],
  shutdown => ["NODE_FAIL", "NodeDown"]);
sub finish {
  my ($run) = @_;
  reap($run);
  if ($run->{report}) {
    my $text = "";
    # processes that outlive the script do not hold this pipe: it is closed when a program is executed
    sysread $run->{report}, $text, 4096;
    $run->{trouble} = $text if length $text;
  }
  my $unit = $run->{unit};
  my $status = $run->{status};
  @$unit{qw(exit sig)} = defined $status ? ($status >> 8, $status & 127) : (127, 0);
  @$unit{qw(state reason)} = $FINAL{$run->{cause}} ? @{$FINAL{$run->{cause}}} :
    defined $run->{trouble} ? ("FAILED", $run->{trouble}) : $status ? ("FAILED", "NonZeroExitCode") : ("COMPLETED", undef);
  my @times = POSIX::times();
  my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK()) || 100;
  $unit->{end} = time;
  $unit->{end} = $unit->{start} if $unit->{end} < $unit->{start};
  $unit->{cpu} = sprintf "%.2f", ($times[3] + $times[4]) / $ticks;
  $unit->{rss} = sprintf "%.0f", $run->{most};
  $run->{slept} += uptime() - $run->{suspended} if defined $run->{suspended};
  $unit->{slept} = int $run->{slept} if $run->{slept} >= 1;
  delete @$unit{qw(sup boot)};
  my $id = $run->{job}{f}{id};
  my $shutdown = $run->{cause} eq "shutdown";
  my $again = $run->{cause} eq "requeue" || $shutdown && $run->{job}{f}{requeue};
  my $event = $again ? line("requeue", { id => $id, $run->{key} eq "" ? () : (els => $run->{key}) }) :
    unit_line($run->{job}, $run->{key}, $unit);
  # a full disk is waited for: until then the job is shown as running
  %state = (jobs => {}, last => 0, ino => 0, at => 0);
  until (eval { locked(sub { record($event) if job_of($id); forget_env($id) }); 1 }) { -e "journal" or last; sleep 1 }
  unlink "run/$run->{name}";
  wake() or $shutdown or eval { start_runner() };
}

# The environment may hold secrets: it is removed when no unit can start any more.
sub forget_env { my ($id) = @_; my $job = job_of($id); unlink "files/$id.env" if $job and ended($job) }

# Gives an order to a running unit; false if its supervisor is gone.
sub order {
  my ($job, $key, $text) = @_;
  sysopen my $fifo, "run/" . unit_name($job, $key), O_WRONLY | O_NONBLOCK or return 0;
  return defined syswrite $fifo, "$text\n";
}
