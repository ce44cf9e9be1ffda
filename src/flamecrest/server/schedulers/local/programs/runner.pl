# The runner: one process per user, which starts waiting units in order as far as the limits allow, notices runs whose
# supervisor was killed, and forgets old jobs. It ends when there is nothing left to do.

# What keeps the units of the job from starting, apart from other jobs and from being held: "" if nothing does.
sub held { my ($job, $key) = @_; return exists $job->{held}{$key} ? $job->{held}{$key} : $job->{f}{hold} }
sub hindrance {
  my ($job) = @_;
  my $f = $job->{f};
  # the limits were lowered after it had been submitted
  return "BadConstraints" unless fits($job, cores(), memory());
  return "BeginTime" if ($f->{begin} || 0) > time;
  if ($f->{deps}) {
    my @met = map { met($job, $_) } split /,/, $f->{deps};
    return "DependencyNeverSatisfied" if grep { $_ < 0 } @met;
    return "Dependency" if grep { not $_ } @met;
  }
  return "JobArrayTaskLimit" if $f->{max} and $job->{alive} >= $f->{max};
  return "";
}

# 1 if the condition is fulfilled, 0 if not yet, -1 if it never will be
sub met {
  my ($job, $text) = @_;
  my ($kind, @ids) = split /:/, $text;
  my $f = $job->{f};
  if ($kind eq "singleton") {
    return grep({ $_->{f}{id} < $f->{id} and $_->{f}{name} eq $f->{name} and not ended($_) } values %{$state{jobs}}) ? 0 : 1;
  }
  my $worst = 1;
  for (@ids) {
    my ($id, $el) = split /_/;
    my $other = job_of($id);
    my $now = $other ? met_by($kind, $other, $el) : $kind eq "afternotok" ? -1 : $kind eq "afterok" ? -1 : 1;
    $worst = $now if $now < $worst;
  }
  return $worst;
}
sub met_by {
  my ($kind, $other, $el) = @_;
  my @units = defined $el ? grep { defined } $other->{units}{$el} : values %{$other->{units}};
  my $waiting = defined $el ? not @units : scalar @{$other->{wait}};
  my $done = not $waiting || grep { alive_state($_->{state}) } @units;
  return $waiting ? 0 : 1 if $kind eq "after";
  return $done ? 1 : 0 if $kind eq "afterany";
  my $bad = grep { not alive_state($_->{state}) and $_->{state} ne "COMPLETED" } @units;
  return $bad ? -1 : $done ? 1 : 0 if $kind eq "afterok";
  return $done ? ($bad ? 1 : -1) : 0;
}

# Jobs by priority, then by their order of submission, and what is free now: processors and MiB.
sub queue { return sort { ($b->{f}{prio} || 0) <=> ($a->{f}{prio} || 0) or $a->{f}{id} <=> $b->{f}{id} } grep { @{$_->{wait}} } values %{$state{jobs}} }
sub unused {
  my ($cpus, $mem) = (cores(), memory());
  for my $job (grep { $_->{alive} } values %{$state{jobs}}) { $cpus -= $job->{alive} * $job->{f}{cpus}; $mem -= $job->{alive} * ($job->{f}{mem} || 0) }
  return ($cpus, $mem);
}
sub fits { my ($job, $cpus, $mem) = @_; return $job->{f}{cpus} <= $cpus && ($job->{f}{mem} || 0) <= $mem }

# The next unit that can start. A job that does not fit makes those behind it wait, so that it is never overtaken.
sub next_unit {
  my ($cpus, $mem) = unused();
  for my $job (queue()) {
    my $key;
    for (@{$job->{wait}}) { next if held($job, $_); $key = $_; last }
    next if not defined $key or hindrance($job);
    return fits($job, $cpus, $mem) ? ($job, $key) : ();
  }
  return ();
}

# Runs whose supervisor is gone, because it was killed or because the machine has started anew.
sub settle {
  my $boot = boot_id();
  for my $job (grep { $_->{alive} } all_jobs()) {
    for my $key (keys %{$job->{units}}) {
      my $unit = $job->{units}{$key};
      next unless alive_state($unit->{state});
      my $same = $unit->{boot} eq $boot;
      next if $same and runs($unit->{sup});
      locked(sub { end_lost($job->{f}{id}, $key, $same) });
    }
  }
}
sub end_lost {
  my ($id, $key, $same) = @_;
  my $job = job_of($id) or return;
  my $unit = $job->{units}{$key} or return;
  return unless alive_state($unit->{state}) and not ($same and runs($unit->{sup}));
  my $name = unit_name($job, $key);
  if ($same) {
    require POSIX;
    kill_all(sub { marked("$name-$unit->{sup}") }, sub { });
  }
  unlink "run/$name";
  if ($job->{f}{requeue}) { record(line("requeue", { id => $id, $key eq "" ? () : (els => $key) })); return }
  my $end = $same ? time : boot_time();
  $end = $unit->{start} if $end < $unit->{start};
  my %lost = (%$unit, end => $end, $same ? (state => "FAILED", reason => "The supervisor of the job was killed. How its script ended is unknown.")
    : (state => "NODE_FAIL", reason => "NodeDown"));
  delete @lost{qw(sup boot)};
  record(unit_line($job, $key, \%lost));
  forget_env($id);
}

# --- its life

sub wake { my ($text) = @_; sysopen my $fifo, "wake", O_WRONLY | O_NONBLOCK or return 0; return defined syswrite $fifo, ($text || "") . "\n" }
sub unfinished { return scalar grep { !ended($_) } values %{$state{jobs}} }

# Makes sure that there is a runner with this version of the program and these limits.
sub start_runner {
  sysopen my $held, "runner", O_RDWR | O_CREAT, 0600 or state_failed("Cannot open the runner's lock");
  my $replaces = 0;
  unless (flock $held, LOCK_EX | LOCK_NB) {
    my $text = slurp("runner");
    return wake() if $text eq "$config{version}\n" or $text eq "";
    chomp $text;
    wake("quit $text");
    $replaces = 1;
  }
  close $held;
  require POSIX;
  defined(my $pid = fork) or state_failed("Cannot start a process");
  if ($pid) { waitpid $pid, 0; return 1 }
  # the second fork makes init its parent
  POSIX::setsid();
  POSIX::_exit(0) if fork;
  unlocked_copy();
  for (0 .. 2) { my $fd = POSIX::open("/dev/null", O_RDWR); POSIX::dup2($fd, $_); POSIX::close($fd) if $fd > 2 }
  eval { be_runner($replaces) };
  POSIX::_exit(0);
}

sub be_runner {
  my ($replaces) = @_;
  call_itself("fc-runner");
  $SIG{$_} = "IGNORE" for qw(HUP PIPE);
  $SIG{$_} = "DEFAULT" for qw(TERM INT);
  $SIG{CHLD} = sub { };
  $SIG{ALRM} = sub { POSIX::_exit(0) };
  sysopen my $held, "runner", O_RDWR | O_CREAT, 0600 or return;
  # the one before it may be at work; of several new ones the first wins
  alarm 20;
  until (flock $held, $replaces ? LOCK_EX : LOCK_EX | LOCK_NB) { return unless $!{EINTR} }
  alarm 0;
  truncate $held, 0;
  written($held, "$config{version}\n");
  POSIX::mkfifo("wake", 0600) unless -p "wake";
  sysopen my $calls, "wake", O_RDWR | O_NONBLOCK or return;
  my $leave = sub { close $held; close $calls; unlocked_copy() };
  my ($settled, $compacted) = (0, 0);
  while (1) {
    1 while waitpid(-1, POSIX::WNOHANG()) > 0;
    my $now = uptime();
    my $pause = eval {
      follow();
      if ($now - $settled >= 5) { settle(); $settled = $now }
      1 while begin_next($leave);
      if (idle_since($now, $compacted)) { locked(\&compact); $compacted = $now }
      pause();
    };
    # a full disk, for example, may pass
    $pause = 5 if $@;
    return unless -e "journal";
    unless (defined $pause) {
      # who submits finds the lock free from here on, and what was submitted before is seen here
      flock $held, LOCK_UN;
      eval { follow() };
      return unless unfinished() and flock $held, LOCK_EX | LOCK_NB;
      next;
    }
    my $bits = "";
    vec($bits, fileno $calls, 1) = 1;
    next unless select($bits, undef, undef, $pause) > 0 and sysread $calls, my $text, 65536;
    return if $text =~ /^quit (.*)$/m and $1 eq $config{version};
  }
}

sub begin_next {
  my ($leave) = @_;
  (my @next = next_unit()) or return 0;
  return locked(sub {
    my ($job, $key) = next_unit() or return 0;
    start_unit($job, $key, $leave);
    return 1;
  });
}

# Old jobs are forgotten once a minute, or as soon as all that is left is to be forgotten.
sub idle_since {
  my ($now, $compacted) = @_;
  my $due = next_end();
  return 0 unless defined $due and $due <= time;
  return $now - $compacted >= 60 || not unfinished();
}
sub next_end {
  my ($first) = sort { $a <=> $b } map { end_of($_) + $config{keep} } grep { ended($_) } all_jobs();
  return $first;
}

# How long the runner may sleep; undef if it is not needed any more.
sub pause {
  my $due = next_end();
  my $open = unfinished();
  return undef unless $open or defined $due;
  my @times = defined $due ? ($due - time) : ();
  push @times, map { $_->{f}{begin} - time } grep { @{$_->{wait}} and ($_->{f}{begin} || 0) > time } all_jobs();
  push @times, 5 if $open;
  my ($least) = sort { $a <=> $b } @times;
  return $least < 0.05 ? 0.05 : $least > 3600 ? 3600 : $least;
}
