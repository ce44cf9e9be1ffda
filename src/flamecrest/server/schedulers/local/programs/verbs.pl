# What the gateway asks for: one verb per start, its fields as a line of words on standard input, and for `submit` the
# script behind it. The answer is one line of JSON.

sub text {
  my ($bytes) = @_;
  return "null" unless defined $bytes;
  if ($bytes =~ /[^\x20-\x7e]/) {
    my $copy = $bytes;
    $bytes =~ s/([\x80-\xff])/\xef\xbf\xbd/g unless utf8::decode($copy);
  }
  $bytes =~ s/(["\\\x00-\x1f\x7f])/sprintf "\\u%04x", ord $1/ge;
  return "\"$bytes\"";
}
sub object { my %f = @_; return "{" . join(",", map { text($_) . ":" . $f{$_} } grep { defined $f{$_} } sort keys %f) . "}" }
sub list { return "[" . join(",", @_) . "]" }
sub words_of { my ($h, @names) = @_; return map { defined $h->{$_} && $h->{$_} ne "" ? ($_ => text($h->{$_})) : () } @names }
sub numbers_of { my ($h, @names) = @_; return map { defined $h->{$_} && $h->{$_} =~ /^-?[0-9.]+$/ ? ($_ => $h->{$_} + 0) : () } @names }

# --- submission

my $MAX_SCRIPT = 16 * 1048576;

sub submit {
  my ($f, $body) = @_;
  my $found = check($f, \$body);
  require POSIX;
  enter(1);
  my $id = locked(sub {
    my ($known) = defined $f->{marker} ? grep { ($_->{f}{marker} || "") eq $f->{marker} } all_jobs() : ();
    return $known->{f}{id} if $known;
    dependencies_exist($f->{deps});
    my $open = 0;
    $open += @{$_->{wait}} + $_->{alive} for all_jobs();
    my $units = exists $f->{array} ? scalar @{elements($f->{array})} : 1;
    $open + $units <= $config{max_jobs} or
      fail("invalid", "You may have $config{max_jobs} jobs and elements of arrays that have not ended, and have $open");
    my $id = last_id() + 1;
    store("files/$id.env", 0600, $found->{env});
    store("files/$id.script", 0700, $body);
    my %job = (%$f, id => $id, submit => time, cpus => $found->{cpus}, mem => $found->{mem}, host => host(),
      user => scalar(getpwuid $>) || $>, umask => sprintf("%o", umask));
    delete @job{qw(path exclusive)};
    record(line("job", \%job));
    return $id;
  });
  # the job is submitted: whatever starts the runner later starts the job
  eval { start_runner() };
  return object(id => text($id));
}

sub host { my $name = slurp("/proc/sys/kernel/hostname"); chomp $name; return $name }

# Whether the job could start at all. The script of a path is read here, so that later changes of the file do not count.
sub check {
  my ($f, $body) = @_;
  defined $f->{warn} and signal_number($f->{warn});
  -d $f->{dir} or fail("invalid", "$!", "workingDirectory");
  -x _ or fail("invalid", "Permission denied", "workingDirectory");
  if (defined $f->{path}) {
    my @there = stat $f->{path} or fail("invalid", "$f->{path}: $!", "scriptPath");
    S_ISREG($there[2]) or fail("invalid", "$f->{path} is no regular file", "scriptPath");
    sysopen my $file, $f->{path}, O_RDONLY | O_NONBLOCK or fail("invalid", "$f->{path}: $!", "scriptPath");
    $$body = "";
    -s $file <= $MAX_SCRIPT or fail("invalid", "must have at most $MAX_SCRIPT bytes", "scriptPath");
    1 while sysread $file, $$body, 1 << 20, length $$body;
  }
  my $where = defined $f->{path} ? "scriptPath" : "script";
  length $$body <= $MAX_SCRIPT or fail("invalid", "must have at most $MAX_SCRIPT bytes", $where);
  $$body =~ /^#!\s*\S/ or fail("invalid", "must start with #! and the path of an interpreter", $where);
  $$body =~ /^[^\n]*\r\n/ and fail("invalid", "has the line ends of Windows (CR LF)", $where);
  my $cpus = $f->{exclusive} ? cores() : $f->{cpus} || 1;
  $cpus <= cores() or fail("invalid", "There are " . cores() . " CPUs for jobs, and the job asks for $cpus", $f->{tasks} ? "resources.tasks" : "resources.cpusPerTask");
  my $mem = $f->{mem} || ($f->{cpumem} ? $f->{cpumem} * $cpus : $config{default_memory});
  $mem ||= memory() if $f->{exclusive};
  not $mem or $mem <= memory() or fail("invalid", "There are " . memory() . " MiB for jobs, and the job asks for $mem", "resources.memory");
  if ($config{max_time}) {
    ($f->{limit} || 0) <= $config{max_time} or fail("invalid", "The longest time limit is $config{max_time} seconds", "timeLimit");
    $f->{limit} ||= $config{default_time} || $config{max_time};
  }
  $f->{limit} ||= $config{default_time};
  delete $f->{limit} unless $f->{limit};
  return { cpus => $cpus, mem => $mem || undef, env => slurp("/proc/$config{shell}/environ") };
}

sub dependencies_exist {
  my ($deps) = @_;
  for (map { my ($kind, @ids) = split /:/; @ids } split /,/, $deps || "") {
    my ($id, $el) = split /_/;
    my $job = job_of($id) or fail("invalid", "Job not found: $_", "dependencies");
    defined $el and not(grep { $_ eq $el } @{$job->{wait}}, keys %{$job->{units}}) and fail("invalid", "Job not found: $_", "dependencies");
  }
}

# Whether a job with these dependencies would wait for job $id.
sub waits_for {
  my ($deps, $id) = @_;
  my (%seen, @next);
  push @next, ($deps || "") =~ /:([0-9]+)/g;
  while (defined(my $other = shift @next)) {
    return 1 if $other == $id;
    my $job = $seen{$other}++ ? undef : job_of($other);
    push @next, ($job->{f}{deps} || "") =~ /:([0-9]+)/g if $job;
  }
  return 0;
}

sub test { my ($f, $body) = @_; my $found = check($f, \$body); my $start;
  if (enter(0)) { follow(); dependencies_exist($f->{deps}) } elsif ($f->{deps}) { dependencies_exist($f->{deps}) }
  my ($cpus, $mem) = unused();
  my $free = not grep { @{$_->{wait}} } all_jobs();
  $start = time if $free and fits({ f => $found }, $cpus, $mem);
  return object(cpus => $found->{cpus}, defined $start ? (start => $start) : ()) }

# --- reading

# The jobs with these ids, or all. Runs that were lost are settled first, and a runner is started if there is none.
sub jobs {
  my ($f) = @_;
  enter(0) or return list();
  follow();
  # a full disk is no reason to show nothing
  eval { settle(); start_runner() if unfinished() };
  my %wanted = map { $_ => 1 } split /,/, $f->{ids} || "";
  my @jobs = %wanted ? grep { defined } map { job_of($_) } keys %wanted : all_jobs();
  my $blocked = blocked();
  return list(map { records($_, $blocked) } @jobs);
}

# For each waiting job whether it waits for its own sake (Resources) or for those before it (Priority).
sub blocked {
  my ($cpus, $mem) = unused();
  my %why;
  my $first = 1;
  for my $job (queue()) {
    next if hindrance($job) or not grep { not held($job, $_) } @{$job->{wait}};
    my $fits = fits($job, $cpus, $mem);
    $why{$job->{f}{id}} = $first ? ($fits ? "" : "Resources") : "Priority";
    $first = 0 unless $fits;
  }
  return \%why;
}

sub records {
  my ($job, $blocked) = @_;
  my $f = $job->{f};
  my %groups;
  my $why = (@{$job->{wait}} && hindrance($job)) || $blocked->{$f->{id}} || "";
  push @{$groups{"PENDING " . (held($job, $_) ? "JobHeldUser" : $why)}}, $_ for @{$job->{wait}};
  my @found;
  for my $key (sort { $a eq "" ? 0 : $a <=> $b } keys %{$job->{units}}) {
    my $unit = $job->{units}{$key};
    if (defined $unit->{start}) { push @found, record_of($job, $unit, $key) }
    else { push @{$groups{"$unit->{state} " . ($unit->{reason} || "") . "\0$unit->{end}"}}, $key }
  }
  for my $group (sort keys %groups) {
    my ($what, $end) = split /\0/, $group;
    my ($state, $reason) = split / /, $what, 2;
    my $unit = { state => $state, reason => $reason, end => $end };
    push @found, record_of($job, $unit, @{$groups{$group}});
  }
  return @found;
}

sub record_of {
  my ($job, $unit, @keys) = @_;
  my $f = $job->{f};
  my $els = $keys[0] eq "" ? undef : ranges(@keys);
  my ($in, $out, $err) = job_files($job, $keys[0]);
  my $ran = alive_state($unit->{state}) && time > $unit->{start} ? time - $unit->{start} : 0;
  return object(words_of($f, qw(id name dir deps comment marker host)), numbers_of($f, qw(submit cpus mem limit prio begin max)),
    words_of($unit, qw(state reason)), numbers_of($unit, qw(start end exit sig cpu rss slept)),
    ran => $ran, runs => ($job->{runs}{$keys[0]} || 0) + 0, in => text($in), out => text($out), err => text($err),
    defined $els ? (els => text($els)) : ());
}

sub with_markers {
  enter(0) or return list();
  # a submission that is under way holds the lock
  my @jobs = locked(sub { grep { $_->{f}{marker} } all_jobs() });
  return list(map { list(text($_->{f}{marker}), text($_->{f}{id})) } @jobs);
}

sub metadata {
  my ($f) = @_;
  my ($job, @keys) = known($f);
  my ($in, $out, $err) = job_files($job, $keys[0]);
  my $script = -e "files/$job->{f}{id}.script" ? text(slurp("files/$job->{f}{id}.script")) : undef;
  return object(in => text($in), out => text($out), err => text($err), script => $script);
}

sub node {
  my ($cpus, $mem, $running) = (cores(), memory(), 0);
  my ($free_cpus, $free_mem) = ($cpus, $mem);
  if (enter(0)) { follow(); settle(); ($free_cpus, $free_mem) = unused() }
  my ($load) = split " ", slurp("/proc/loadavg");
  my $available = slurp("/proc/meminfo") =~ /^MemAvailable: +([0-9]+)/m ? int($1 / 1024) : undef;
  return object(name => text(host()), cpus => $cpus, mem => $mem, idle => $free_cpus, allocated => $mem - $free_mem,
    load => $load + 0, available => $available);
}

# --- changes

# The job of an id, and those of its units that the id means.
sub known {
  my ($f) = @_;
  my $job;
  if (enter(0)) { follow(); $job = job_of($f->{id}) }
  $job or fail("not_found", $f->{shown});
  my @all = (@{$job->{wait}}, keys %{$job->{units}});
  my %wanted = map { $_ => 1 } defined $f->{els} ? @{elements($f->{els})} : @all;
  my @keys = sort { $a eq "" ? 0 : $a <=> $b } grep { $wanted{$_} } @all;
  @keys or fail("not_found", $f->{shown});
  return ($job, @keys);
}

sub els_of { my @keys = @_; return $keys[0] eq "" ? () : (els => ranges(sort { $a <=> $b } @keys)) }
sub changing {
  my ($f, $do) = @_;
  known($f);
  settle();
  require POSIX;
  my $answer = locked(sub {
    my ($job, @keys) = known($f);
    my @waiting = grep { not $job->{units}{$_} } @keys;
    my @alive = grep { $job->{units}{$_} and alive_state($job->{units}{$_}{state}) } @keys;
    return $do->($job, \@waiting, \@alive, \@keys);
  });
  start_runner() if unfinished();
  return $answer;
}
my $done = sub { return object() };

sub cancel {
  my ($f) = @_;
  return changing($f, sub {
    my ($job, $waiting, $alive) = @_;
    my $id = $job->{f}{id};
    if (@$waiting) {
      my %unit = (id => $id, state => "CANCELLED", end => time, els_of(@$waiting));
      record(line("unit", \%unit));
      forget_env($id);
    }
    order($job, $_, "cancel") for @$alive;
    return object(ended => @$waiting || @$alive ? 0 : 1);
  });
}

sub act {
  my ($f) = @_;
  my $action = $f->{action};
  return changing($f, sub {
    my ($job, $waiting, $alive, $keys) = @_;
    my $id = $job->{f}{id};
    if ($action eq "hold" or $action eq "release") {
      @$waiting or fail("conflict", @$alive ? "The job runs already" : "The job has ended");
      my %set = (id => $id, hold => $action eq "hold" ? 1 : 0, defined $f->{els} ? els_of(@$waiting) : ());
      record(line("set", \%set));
      return object();
    }
    my @units = grep { my $unit = $job->{units}{$_}; $action ne "resume" || $unit->{state} eq "SUSPENDED" } @$alive;
    return object() if $action eq "resume" and @$alive and not @units;
    @units or fail("conflict", @$waiting ? "The job does not run" : "The job has ended");
    for my $key (@units) {
      my %unit = %{$job->{units}{$key}};
      order($job, $key, $action) or fail("conflict", "The job is ending");
      next if $action eq "requeue";
      $unit{state} = $action eq "suspend" ? "SUSPENDED" : "RUNNING";
      record(unit_line($job, $key, \%unit));
    }
    return object();
  });
}

sub signal_number {
  my ($name) = @_;
  require Config;
  my %known = map { $_ => 1 } split " ", $Config::Config{sig_name};
  $known{$name} and $name ne "ZERO" or ($name =~ /^[0-9]+$/ and $name >= 1 and $name <= 64) or
    fail("invalid", "must be the name of a signal (USR1) or its number", "signal");
}
sub signal {
  my ($f) = @_;
  my $name = $f->{signal};
  signal_number($name);
  return changing($f, sub {
    my ($job, $waiting, $alive) = @_;
    @$alive or fail("conflict", @$waiting ? "The job does not run" : "The job has ended");
    order($job, $_, "signal $name") or fail("conflict", "The job is ending") for @$alive;
    return object();
  });
}

sub change {
  my ($f) = @_;
  known($f);
  dependencies_exist($f->{deps});
  return changing($f, sub {
    my ($job, $waiting, $alive) = @_;
    @$waiting or @$alive or fail("conflict", "The job has ended");
    my %set = map { defined $f->{$_} ? ($_ => $f->{$_}) : () } qw(name prio limit begin deps comment);
    if (defined $set{limit} and $config{max_time} and $set{limit} > $config{max_time}) {
      fail("invalid", "The longest time limit is $config{max_time} seconds", "timeLimit");
    }
    if (not @$waiting and grep { defined $set{$_} } qw(begin deps)) { fail("conflict", "The job runs already") }
    waits_for($set{deps}, $job->{f}{id}) and fail("invalid", "The job would wait for itself", "dependencies");
    record(line("set", { id => $job->{f}{id}, %set }));
    if (defined $set{limit}) { order($job, $_, "limit $set{limit}") for @$alive }
    return object();
  });
}

# Runs a command with the environment of a running job, in its folder; its output is discarded but for errors.
sub attach {
  my ($f) = @_;
  my ($job, @keys) = known($f);
  settle();
  my @alive = grep { $job->{units}{$_} and $job->{units}{$_}{state} eq "RUNNING" } @keys;
  @alive or fail("conflict", @{$job->{wait}} ? "The job does not run" : "The job has ended");
  @alive == 1 or fail("conflict", "$f->{shown} names several running jobs. Name one of them.");
  my ($leader) = grep { (stat_of($_))[1] } descendants((split /:/, $job->{units}{$alive[0]}{sup})[0]) or fail("conflict", "The job is ending");
  %ENV = map { split /=/, $_, 2 } grep { /^[^=]+=/ } split /\0/, slurp("/proc/$leader/environ");
  chdir $job->{f}{dir} or fail("invalid", "Cannot enter $job->{f}{dir}: $!");
  open STDOUT, ">", "/dev/null";
  exec "/bin/sh", "-c", $f->{command} or fail("upstream", "Cannot start /bin/sh: $!");
}

sub ping { enter(0); return object() }

my %VERBS = (submit => \&submit, test => \&test, jobs => \&jobs, marked => \&with_markers, metadata => \&metadata, node => \&node,
  cancel => \&cancel, act => \&act, signal => \&signal, change => \&change, attach => \&attach, ping => \&ping);

sub main {
  my ($verb, $shell) = @_;
  $SIG{__WARN__} = sub { };
  binmode STDIN;
  binmode STDOUT;
  my $input = "";
  while (1) { my $n = sysread STDIN, $input, 1 << 20, length $input; last if defined $n and not $n; defined $n or $!{EINTR} or last }
  my ($head, $more, $body) = split /\n/, $input, 3;
  %config = %{words(split / /, $head)};
  $config{shell} = $shell;
  my $answer = eval { $VERBS{$verb}->(words(split / /, $more), $body) };
  if (my $error = $@) {
    $error = { kind => "upstream", text => "$error" } unless ref $error;
    $answer = object(kind => text($error->{kind}), text => text($error->{text}), field => defined $error->{field} ? text($error->{field}) : undef);
    $answer = "{\"error\":$answer}";
  }
  written(\*STDOUT, "$answer\n");
}
main(@ARGV);
