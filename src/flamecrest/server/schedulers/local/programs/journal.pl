# The state of one user's jobs: an append-only journal in the user's own folder, and what it says. Perl 5.14 or later,
# modules of perl-base only. The loader drops lines that begin with #, and indentation.
#
# A line is an event: its kind, key=value words in percent-encoding, and a dot, so that a torn line is not taken for
# a whole one. `job` is a job as submitted, `set` changes its fields, `unit` is the whole state of a unit: of the job, or
# of the elements of an array (els=1-3). `requeue` makes a unit wait again, `drop` forgets a job, `last` is the last id.
# Only who holds the lock writes; readers need no lock.
package Flamecrest::Local;
use strict;
use warnings;
use Errno;
use Fcntl qw(:flock :mode O_APPEND O_CREAT O_EXCL O_NOFOLLOW O_NONBLOCK O_RDONLY O_RDWR O_TRUNC O_WRONLY SEEK_SET);

our %config;
my %state = (jobs => {}, last => 0, ino => 0, at => 0);

sub fail {
  my ($kind, $text, $field) = @_;
  die { kind => $kind, text => $text, field => $field };
}

sub encoded { my $v = $_[0]; $v =~ s/([%\x00-\x20\x7f])/sprintf "%%%02X", ord $1/ge; return $v }
sub decoded { my $v = $_[0]; $v =~ s/%([0-9A-F]{2})/chr hex $1/ge if index($v, "%") >= 0; return $v }

sub words {
  my %found;
  for (@_) { my ($k, $v) = split /=/, $_, 2; $found{$k} = decoded($v) if defined $v }
  return \%found;
}

sub line {
  my ($kind, $fields) = @_;
  my @words = map { "$_=" . encoded($fields->{$_}) } grep { defined $fields->{$_} } sort keys %$fields;
  return join(" ", $kind, @words, ".") . "\n";
}

# --- the folder

# Goes to the state folder, which belongs to the user alone. False if it does not exist and is not to be made.
sub enter {
  my ($make) = @_;
  my $home = $ENV{HOME};
  $home = (getpwuid $>)[7] unless defined $home and $home =~ m{^/};
  chdir $home or fail("upstream", "Cannot enter the home directory $home: $!");
  my $host = slurp("/proc/sys/kernel/hostname");
  $host =~ s/[^A-Za-z0-9.-]//g;
  my @parts = (split(m{/+}, $config{state_dir}), $host || "localhost");
  my $path = $parts[0] eq "" ? "" : $home;
  for my $part (grep { $_ ne "" } @parts) {
    $path .= "/$part";
    next if lstat $path;
    $!{ENOENT} or state_failed("Cannot read the state folder $path");
    return 0 unless $make;
    mkdir $path, 0700 or $!{EEXIST} or state_failed("Cannot make the state folder $path");
  }
  my @there = lstat $path or state_failed("Cannot read the state folder $path");
  -l _ and fail("denied", "The state folder $path is a symbolic link");
  S_ISDIR($there[2]) or fail("denied", "The state folder $path is no folder");
  $there[4] == $> or fail("denied", "The state folder $path belongs to another user");
  $there[2] & 022 and fail("denied", "The state folder $path can be written by other users");
  chdir $path or state_failed("Cannot enter the state folder $path");
  my @here = stat "." or state_failed("Cannot read the state folder $path");
  "@here[0, 1]" eq "@there[0, 1]" or fail("denied", "The state folder $path was replaced");
  $config{folder} = $path;
  for my $part ("files", "run") { next if -d $part; mkdir $part, 0700 or $!{EEXIST} or state_failed("Cannot make $path/$part") }
  return 1;
}

sub state_failed { my ($text) = @_; fail($!{EACCES} || $!{EPERM} ? "denied" : "upstream", "$text: $!") }

sub slurp {
  my ($path) = @_;
  sysopen my $file, $path, O_RDONLY or return "";
  my $text = "";
  1 while sysread $file, $text, 65536, length $text;
  return $text;
}

# A new file with its content on the disk.
sub store {
  my ($path, $mode, @parts) = @_;
  my $text = join "", @parts;
  unlink $path;
  sysopen my $file, $path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, $mode or state_failed("Cannot write $path");
  unless (written($file, $text) and synced($file) and close $file) {
    my $error = $!;
    unlink $path;
    $! = $error;
    state_failed("Cannot write $path");
  }
}

sub written {
  my ($file, $text) = @_;
  my $done = 0;
  while ($done < length $text) {
    my $n = syswrite $file, $text, length($text) - $done, $done;
    if (defined $n) { $done += $n } elsif (not $!{EINTR}) { return 0 }
  }
  return 1;
}
sub synced { my ($file) = @_; require IO::Handle; return $file->sync || $!{EINVAL} }

# --- the lock and the journal

my $lock;
sub locked {
  my ($do) = @_;
  return $do->() if $lock;
  sysopen $lock, "lock", O_RDWR | O_CREAT, 0600 or do { undef $lock; state_failed("Cannot open the lock") };
  until (flock $lock, LOCK_EX) { $!{EINTR} or state_failed("Cannot lock the state folder") }
  my @result = eval { follow(); $do->() };
  my $error = $@;
  close $lock;
  undef $lock;
  die $error if $error;
  return wantarray ? @result : $result[0];
}
sub unlocked_copy { close $lock if $lock; undef $lock }

# Writes events and applies them. All of them are on the disk on return, or none.
sub record {
  my @lines = @_;
  sysopen my $file, "journal", O_RDWR | O_APPEND | O_CREAT, 0600 or state_failed("Cannot open the journal");
  my $size = -s $file;
  my $last = "\n";
  if ($size) { sysseek $file, $size - 1, SEEK_SET; sysread $file, $last, 1 }
  unless (written($file, ($last eq "\n" ? "" : "\n") . join "", @lines) and synced($file)) {
    my $error = $!;
    truncate $file, $size;
    $! = $error;
    state_failed("Cannot write the journal");
  }
  follow();
}

# Reads what the journal has got since the last time.
sub follow {
  sysopen my $file, "journal", O_RDONLY or do { $!{ENOENT} or state_failed("Cannot read the journal"); return };
  my ($ino, $size) = (stat $file)[1, 7];
  %state = (jobs => {}, last => 0, ino => $ino, at => 0) if $ino != $state{ino} or $size < $state{at};
  sysseek $file, $state{at}, SEEK_SET;
  my $text = "";
  while (1) {
    my $n = sysread $file, $text, 1 << 20, length $text;
    defined $n or $!{EINTR} or state_failed("Cannot read the journal");
    last if defined $n and not $n;
  }
  my $end = rindex $text, "\n";
  return if $end < 0;
  $state{at} += $end + 1;
  for (split /\n/, substr $text, 0, $end) {
    my ($kind, @words) = split / /;
    apply($kind, words(@words)) if @words and pop(@words) eq ".";
  }
}

sub apply {
  my ($kind, $e) = @_;
  if ($kind eq "job") {
    my $els = exists $e->{array} ? elements($e->{array}) : [""];
    $state{jobs}{$e->{id}} = { f => $e, units => {}, wait => $els, all => scalar @$els, runs => {}, alive => 0, held => {} };
    $state{last} = $e->{id} if $e->{id} > $state{last};
    return;
  }
  if ($kind eq "last") { $state{last} = $e->{id} if $e->{id} > $state{last}; return }
  my $job = $state{jobs}{$e->{id}} or return;
  if ($kind eq "drop") { delete $state{jobs}{$e->{id}} }
  elsif ($kind eq "set") {
    my $els = delete $e->{els};
    if (defined $els) { for (@{elements($els)}) { $job->{held}{$_} = $e->{hold} } }
    else { $job->{f}{$_} = $e->{$_} for keys %$e; $job->{held} = {} if exists $e->{hold} }
  }
  elsif ($kind eq "unit") {
    my $els = delete $e->{els};
    my @keys = defined $els ? @{elements($els)} : ("");
    $job->{runs}{$_} = $e->{runs} || 0 for @keys;
    for my $key (@keys) {
      my $old = $job->{units}{$key};
      $job->{alive}-- if $old and alive_state($old->{state});
      $job->{alive}++ if alive_state($e->{state});
      unless ($old) {
        if (@{$job->{wait}} and $job->{wait}[0] eq $key) { shift @{$job->{wait}} }
        else { $job->{unsorted} = 1 }
      }
      $job->{units}{$key} = $e;
    }
    $job->{wait} = [grep { not $job->{units}{$_} } @{$job->{wait}}] if delete $job->{unsorted};
  }
  elsif ($kind eq "requeue") {
    my @keys = defined $e->{els} ? @{elements($e->{els})} : ("");
    for my $key (@keys) {
      my $old = delete $job->{units}{$key} or next;
      $job->{alive}-- if alive_state($old->{state});
      $job->{runs}{$key}++;
    }
    my %waiting = map { $_ => 1 } @{$job->{wait}}, @keys;
    $job->{wait} = [keys(%waiting) > 1 ? sort { $a <=> $b } keys %waiting : keys %waiting];
  }
}

sub alive_state { return $_[0] eq "RUNNING" || $_[0] eq "SUSPENDED" }
sub job_of { return $state{jobs}{$_[0]} }
sub all_jobs { return map { $state{jobs}{$_} } sort { $a <=> $b } keys %{$state{jobs}} }
sub last_id { return $state{last} }
sub ended { my ($job) = @_; return !@{$job->{wait}} && !$job->{alive} }

# "0-8:2,11" as numbers
sub elements {
  my ($text) = @_;
  my @found;
  for (split /,/, $text) {
    my ($first, $last, $step) = /^([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?$/ or next;
    $last = $first unless defined $last;
    for (my $n = $first; $n <= $last; $n += $step || 1) { push @found, $n }
  }
  my %seen;
  return [sort { $a <=> $b } grep { not $seen{$_}++ } @found];
}

# the other way, for sorted numbers
sub ranges {
  my @runs;
  for (@_) {
    if (@runs and $runs[-1][1] == $_ - 1) { $runs[-1][1] = $_ } else { push @runs, [$_, $_] }
  }
  return join ",", map { $_->[0] == $_->[1] ? $_->[0] : "$_->[0]-$_->[1]" } @runs;
}

# Writes the journal anew, without the jobs that ended `keep` seconds ago or earlier, and removes files that belong to
# no job: a submission that was killed may have left them.
sub compact {
  my $now = time;
  my %needed;
  for my $job (all_jobs()) {
    next if ended($job);
    $needed{$_} = 1 for ($job->{f}{deps} || "") =~ /:([0-9]+)/g;
  }
  my @lines = (line("last", { id => $state{last} }));
  for my $job (all_jobs()) {
    my $id = $job->{f}{id};
    if (ended($job) and not $needed{$id} and end_of($job) + $config{keep} <= $now) { next }
    push @lines, line("job", $job->{f});
    my %same;
    for my $key (sort keys %{$job->{units}}) {
      my %unit = (%{$job->{units}{$key}}, id => $id, runs => $job->{runs}{$key});
      push @{$same{line("unit", \%unit)}}, $key;
    }
    for my $text (sort keys %same) {
      my $els = ranges(sort { $a <=> $b } grep { $_ ne "" } @{$same{$text}});
      $text =~ s/ \.\n$/ els=$els .\n/ if $els ne "";
      push @lines, $text;
    }
    push @lines, map { line("set", { id => $id, els => $_, hold => $job->{held}{$_} }) } sort keys %{$job->{held}};
  }
  store("journal.new", 0600, @lines);
  rename "journal.new", "journal" or state_failed("Cannot replace the journal");
  my $folder;
  synced($folder) if sysopen $folder, ".", O_RDONLY;
  follow();
  opendir my $files, "files" or return;
  /^([0-9]+)\./ and not job_of($1) and unlink "files/$_" for readdir $files;
}

sub end_of {
  my ($job) = @_;
  my $latest = 0;
  for (values %{$job->{units}}) { $latest = $_->{end} if defined $_->{end} and $_->{end} > $latest }
  return $latest;
}
