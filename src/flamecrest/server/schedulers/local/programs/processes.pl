# Processes of jobs, as /proc shows them. A process is known by its number and the time when it started, which together
# are never used again until the machine starts anew; then its boot id is another.

sub boot_id { my $id = slurp("/proc/sys/kernel/random/boot_id"); chomp $id; return $id }
sub boot_time { return slurp("/proc/stat") =~ /^btime ([0-9]+)/m ? $1 : time }
# seconds that no change of the clock moves
sub uptime { return slurp("/proc/uptime") =~ /^([0-9.]+)/ ? $1 : time }

# the fields of /proc/PID/stat behind the name: state, parent, ...; none if there is no such process
sub stat_of {
  my $text = slurp("/proc/$_[0]/stat");
  my $at = rindex $text, ")";
  return $at < 0 ? () : split " ", substr $text, $at + 1;
}
sub identity { my ($pid) = @_; my @s = stat_of($pid); return @s ? "$pid:$s[19]" : "" }
sub runs {
  my ($identity) = @_;
  my ($pid) = split /:/, $identity;
  my @s = stat_of($pid);
  return @s && $s[0] ne "Z" && $s[0] ne "X" && "$pid:$s[19]" eq $identity;
}

my $has_children;
sub descendants {
  my ($root) = @_;
  $has_children = -e "/proc/$$/task/$$/children" unless defined $has_children;
  my @found;
  if ($has_children) {
    my @next = ($root);
    while (defined(my $pid = shift @next)) {
      opendir my $tasks, "/proc/$pid/task" or next;
      my @children = map { split " ", slurp("/proc/$pid/task/$_/children") } grep { /^[0-9]/ } readdir $tasks;
      push @found, @children;
      push @next, @children;
    }
    return @found;
  }
  my %children;
  for my $pid (every()) { my @s = stat_of($pid) or next; push @{$children{$s[1]}}, $pid }
  my @next = ($root);
  while (defined(my $pid = shift @next)) { my $new = $children{$pid} || []; push @found, @$new; push @next, @$new }
  return @found;
}
sub every { opendir my $proc, "/proc" or return; return grep { /^[0-9]+$/ } readdir $proc }

# Processes that carry the mark of a run in their environment, wherever their parents went.
sub marked {
  my ($mark) = @_;
  my $text = "\0FLAMECREST_RUN=$mark\0";
  return grep { $_ != $$ and index("\0" . slurp("/proc/$_/environ"), $text) >= 0 } every();
}

# Sends a signal to processes as $list finds them, until it finds no further ones.
sub signal_all {
  my ($name, $list) = @_;
  my %done;
  for (1 .. 20) {
    my @new = grep { not $done{$_}++ } $list->() or last;
    kill $name, @new;
  }
  return scalar keys %done;
}

# Ends all of them; false if some are still there after ten seconds. $reap waits for children that have ended.
sub kill_all {
  my ($list, $reap) = @_;
  for (1 .. 1000) {
    $reap->();
    my @left = grep { (stat_of($_))[0] =~ /[^ZX]/ } $list->() or return 1;
    kill "KILL", @left;
    select undef, undef, undef, 0.01;
  }
  return 0;
}

# MiB of several processes together. What they share is counted once, if that decides.
sub memory_of {
  my ($most, @pids) = @_;
  my $page = POSIX::sysconf(POSIX::_SC_PAGESIZE());
  my $bytes = 0;
  for (@pids) { my @s = split " ", slurp("/proc/$_/statm"); $bytes += $s[1] * $page if @s }
  return $bytes / 1048576 if $bytes / 1048576 <= $most;
  my $kib = 0;
  for (@pids) { $kib += $1 if slurp("/proc/$_/smaps_rollup") =~ /^Pss: +([0-9]+)/m }
  return ($kib || $bytes / 1024) / 1024;
}

# prctl(2), which has another number on each machine; true if it has done what it was asked for
sub prctl {
  my %number = (x86_64 => 157, aarch64 => 167, riscv64 => 167, ppc64le => 171, ppc64 => 171, s390x => 172, i686 => 172);
  my $number = $number{(POSIX::uname())[4]} or return 0;
  my $result = eval { syscall($number, @_, 0, 0, 0) };
  return defined $result && $result == 0;
}
# With this, processes whose parent has ended become children of this one.
sub adopt_orphans { return prctl(36, 1) }
# The name that ps and top show. Not by $0, which would write over the environment in /proc.
sub call_itself { my ($name) = @_; prctl(15, $name) }

# the processors that this process may use, and the memory of the machine in MiB
sub machine_cores {
  my $text = slurp("/proc/self/status") =~ /^Cpus_allowed_list:\s*(\S+)/m ? $1 : "0";
  return scalar @{elements($text)} || 1;
}
sub machine_memory { return slurp("/proc/meminfo") =~ /^MemTotal: +([0-9]+)/m ? int($1 / 1024) : 0 }
sub cores { return $config{cores} || machine_cores() }
sub memory { return $config{memory} || machine_memory() }
