# Lists a folder, or changes one, for synchronizations. Arguments: the mode, the root, and what the mode needs.
#   list ROOT CHECKSUM SWEEP   writes a record for each entry below ROOT, in the order of the bytes of their names
#   apply ROOT SOURCE          does what the records on standard input say; files are copied from the folder SOURCE
#   send ROOT                  writes the content of the files that the records on standard input name
# A record is a letter and numbers, separated by blanks, a path relative to ROOT, and a text; a NUL ends each of the
# three. Content is chunks: a length of 32 bits and so many bytes. 0 ends a file, $BAD says that it is of no use.
# No path is used twice: every folder is opened from its parent, which is open, and is verified to be the one that
# lstat has seen. So a folder that becomes a link is never followed. It needs perl 5.10 with core modules.
use strict;
use warnings;
use Errno qw(EAGAIN EEXIST EINTR EIO EISDIR ELOOP ENOENT ENOTDIR ENOTEMPTY);
use POSIX ();
use Fcntl qw(:mode O_CREAT O_EXCL O_NOCTTY O_NOFOLLOW O_NONBLOCK O_RDONLY O_WRONLY);

my $BAD = 0xFFFFFFFF;
my $PIECE = 1048576;
my $NOTE = 8 * $PIECE;
my $DAY = 86400;
my $LEFT = qr/\A\.flamecrest-(?:upload|unpack)-[0-9a-f]{16}\z/;
my $MINE = qr/\A\.flamecrest-/;
my $fine = eval { require Time::HiRes; Time::HiRes->can("lstat") && Time::HiRes->can("utime") } ? 1 : 0;
my ($mode, $root, @rest) = @ARGV;
$SIG{__WARN__} = sub { };
$SIG{$_} = sub { exit 1 } for qw(HUP INT TERM PIPE);
binmode STDIN;
binmode STDOUT;
my $umask = umask 0077;

# --- output and input

my $out = "";

sub flush {
  my $done = 0;
  while ($done < length $out) {
    my $n = syswrite STDOUT, $out, length($out) - $done, $done;
    if (defined $n) { $done += $n } elsif ($! == EINTR) { next } else { exit 1 }
  }
  $out = "";
}

sub record {
  my ($head, $path, $text) = @_;
  $out .= join("\0", $head, $path, defined $text ? $text : "") . "\0";
  flush() if length $out > 32768;
}

sub failed {
  my ($path, $code) = @_;
  local $! = $code;
  record("! " . ($code + 0), $path, "$!");
}

my $in = "";

# more input; false at its end
sub fill {
  while (1) {
    my $n = sysread STDIN, $in, 131072, length $in;
    return $n if defined $n;
    exit 1 if $! != EINTR;
  }
}

sub fields {
  my @found;
  while (@found < 3) {
    my $at = index $in, "\0";
    if ($at < 0) { flush() if length $out; fill() or return; next }
    push @found, substr $in, 0, $at, "";
    substr $in, 0, 1, "";
  }
  return @found;
}

sub taken {
  my ($size) = @_;
  while (length $in < $size) { fill() or exit 1 }
  return substr $in, 0, $size, "";
}

# --- folders

sub attributes {
  my @s = $_[1] ? ($fine ? Time::HiRes::stat($_[0]) : stat $_[0]) : $fine ? Time::HiRes::lstat($_[0]) : lstat $_[0];
  return @s;
}

# the time of the last change in microseconds
sub micros {
  return sprintf "%.0f", $_[0] * 1e6;
}

# the handle of a folder below the current one, whose attributes are given; undef with the reason in $!
sub opened {
  my ($name, @seen) = @_;
  opendir my $dir, $name or return;
  my @now = stat $dir;
  unless (@now and $now[0] == $seen[0] and $now[1] == $seen[1]) { $! = ELOOP; return }
  return $dir;
}

# the handle of a root, whose path has no links: the gateway has resolved them. One that has taken the place of a folder
# since then is not followed. With `make` the last folder is made if there is none.
sub opened_root {
  my ($path, $make) = @_;
  chdir $path; # what is mounted when it is used is there from now on
  chdir "/" or return;
  my @names = grep { length } split m{/}, $path;
  while (defined(my $name = shift @names)) {
    my @s = lstat $name;
    if (not @s and $! == ENOENT and $make and not @names) {
      umask $umask;
      my $made = mkdir $name, 0777;
      my $why = $! + 0;
      umask 0077;
      unless ($made) { $! = $why; return }
      @s = lstat $name;
    }
    return unless @s;
    unless (S_ISDIR($s[2])) { $! = ENOTDIR; return }
    chdir $name or return;
    my @now = stat ".";
    unless (@now and $now[0] == $s[0] and $now[1] == $s[1]) { $! = ELOOP; return }
  }
  opendir my $dir, "." or return;
  return $dir;
}

# a stack of open folders leads from a root to the folder that was used last
sub enter {
  my ($stack, $path) = @_;
  my @want = split m{/}, $path;
  my $same = 0;
  $same++ while $same < @want and $same + 1 < @$stack and $stack->[$same + 1][0] eq $want[$same];
  splice @$stack, $same + 1;
  for my $name (@want[$same .. $#want]) {
    exit 3 if $name eq "" or $name eq "." or $name eq "..";
    chdir $stack->[-1][1] or return;
    my @s = lstat $name or return;
    unless (S_ISDIR($s[2])) { $! = ENOTDIR; return }
    my $dir = opened($name, @s) or return;
    push @$stack, [$name, $dir];
  }
  return chdir $stack->[-1][1];
}

sub parted {
  my ($folder, $name) = $_[0] =~ m{\A(?:(.*)/)?([^/]+)\z}s or exit 3;
  exit 3 if $name eq "." or $name eq ".." or $_[0] =~ m{\A/};
  return (defined $folder ? $folder : "", $name);
}

# --- list

# device, inode and time of the last change of the root, and of each folder that it is in: two names of one folder
# (mounted twice, or on two clusters) have the same. A folder below a mounted part of a file system (mount --bind) is
# also in the folders around the original of that part.
sub identities {
  my ($top) = @_;
  my (@found, @before);
  my $path = ".";
  chdir $top or return "";
  while (@found < 256) {
    my @s = attributes($path, 1) or last;
    last if @before and $before[0] == $s[0] and $before[1] == $s[1];
    @before = @s;
    push @found, identity(@s);
    $path .= "/..";
  }
  my %seen = map { $_ => 1 } @found;
  for my $other (other_paths()) {
    for (my $at = $other; length $at and @found < 1024; $at =~ s{/[^/]*\z}{}) {
      my @s = attributes($at, 1) or next;
      my $one = identity(@s);
      push @found, $one unless $seen{$one}++;
    }
  }
  return "@found";
}

sub identity {
  return "$_[0]:$_[1]:" . micros($_[10]);
}

# the other paths of the working directory, by the mounts of its file system; none where the kernel does not say
sub other_paths {
  my @here = stat "." or return;
  my $path = readlink "/proc/self/cwd";
  open my $folder, "<", "." or return;
  open my $info, "<", "/proc/self/fdinfo/" . fileno $folder or return;
  my ($mount) = map { /\Amnt_id:\s*(\d+)/ ? $1 : () } <$info>;
  open my $mounts, "<", "/proc/self/mountinfo" or return;
  return unless defined $path and defined $mount;
  my ($device, $inside, @all);
  while (my $line = <$mounts>) {
    my ($id, undef, $number, @names) = split / /, $line;
    my ($part, $point) = map { my $name = $_; $name =~ s/\\([0-7]{3})/chr oct $1/ge; $name eq "/" ? "" : $name } @names[0, 1];
    push @all, [$number, $part, $point];
    next unless $id == $mount and index("$path/", "$point/") == 0;
    ($device, $inside) = ($number, $part . substr $path, length $point);
  }
  return unless defined $device;
  my @found;
  for my $one (@all) {
    my ($number, $part, $point) = @$one;
    next unless $number eq $device and index("$inside/", "$part/") == 0;
    my $other = $point . substr $inside, length $part;
    my @s = stat $other or next;
    push @found, $other if $other ne $path and $s[0] == $here[0] and $s[1] == $here[1];
  }
  return @found;
}

my ($checksum, $sweep);

sub sha256 {
  my ($name, @seen) = @_;
  sysopen my $file, $name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY or return;
  my @now = stat $file;
  unless ($now[0] == $seen[0] and $now[1] == $seen[1]) { $! = ELOOP; return }
  if (eval { require Digest::SHA }) {
    my ($sum, $piece) = Digest::SHA->new(256);
    while (1) {
      my $n = sysread $file, $piece, $PIECE;
      next if not defined $n and $! == EINTR;
      return unless defined $n;
      return $sum->hexdigest unless $n;
      $sum->add($piece);
    }
  }
  my $child = open my $program, "-|";
  return unless defined $child;
  unless ($child) { open STDIN, "<&", $file; exec "sha256sum"; exit 127 }
  my $line = <$program>;
  close $program;
  return $1 if defined $line and $line =~ /\A([0-9a-f]{64}) /;
  $! = EIO;
  return;
}

sub walk {
  my ($dir, $path) = @_;
  my $prefix = length $path ? "$path/" : "";
  $! = 0;
  my @names = readdir $dir;
  if ($! + 0) { failed($path, $! + 0); return }
  chdir $dir or return failed($path, $! + 0);
  for my $name (sort @names) {
    next if $name eq "." or $name eq "..";
    my @s = attributes($name);
    unless (@s) { failed("$prefix$name", $! + 0) unless $! == ENOENT; next }
    if ($name =~ $MINE) {
      my $old = $s[9] > $s[8] ? $s[9] : $s[8];
      unlink $name if $sweep and $name =~ $LEFT and $s[4] == $> and not S_ISDIR($s[2]) and $old + $DAY < time;
      next;
    }
    my $head = sprintf "%o %d %s %d", $s[2] & 07777, $s[7], micros($s[9]), $s[4];
    if (S_ISDIR($s[2])) {
      my $below = opened($name, lstat $name);
      unless ($below) { failed("$prefix$name", $! + 0); next }
      record("d $head -", "$prefix$name");
      walk($below, "$prefix$name");
      chdir $dir or return failed($path, $! + 0);
    } elsif (S_ISLNK($s[2])) {
      my $target = readlink $name;
      if (defined $target) { record("l $head -", "$prefix$name", $target) } else { failed("$prefix$name", $! + 0) }
    } elsif (S_ISREG($s[2])) {
      my $sum = "-";
      if ($checksum) {
        $sum = sha256($name, @s);
        unless (defined $sum) { failed("$prefix$name", $! + 0); next }
      }
      record("f $head $sum", "$prefix$name");
    } else {
      record("o $head -", "$prefix$name");
    }
  }
}

# --- content

# the open file and its attributes
sub content_of {
  my ($stack, $path) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  sysopen my $file, $name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY or return;
  my @s = attributes($file, 1);
  unless (S_ISREG($s[2])) { $! = EISDIR; return }
  return ($file, @s);
}

sub unchanged {
  my ($file, @before) = @_;
  my @now = attributes($file, 1);
  return $now[7] == $before[7] && $now[9] == $before[9];
}

# call with each piece of an open file; false if it has changed meanwhile, or cannot be read
sub pieces {
  my ($use, $file, @before) = @_;
  my ($piece, $size) = ("", 0);
  while (1) {
    my $n = sysread $file, $piece, $PIECE;
    next if not defined $n and $! == EINTR;
    return unless defined $n;
    last unless $n;
    $size += $n;
    $use->($piece) or return;
  }
  if ($size != $before[7] or not unchanged($file, @before)) { $! = EAGAIN; return }
  return 1;
}

sub send_file {
  my ($stack, $path) = @_;
  my ($file, @s) = content_of($stack, $path);
  return failed($path, $! + 0) unless $file;
  record(sprintf("r %o %s", $s[2] & 0777, micros($s[9])), $path);
  my $good = pieces(sub { $out .= pack("N", length $_[0]) . $_[0]; flush(); 1 }, $file, @s);
  $out .= pack "N", $good ? 0 : $BAD;
}

# --- apply

my $count = 0;
# the temporary file that is being written, and its folder
my ($unfinished, $unfinished_in);

END {
  my $status = $?;
  unlink $unfinished if defined $unfinished and chdir $unfinished_in;
  $? = $status;
}

sub temporary {
  return sprintf ".flamecrest-upload-%08x%08x", ($$ << 16 ^ time) & 0xFFFFFFFF, ($count++ ^ int rand 0xFFFFFFFF) & 0xFFFFFFFF;
}

sub written {
  my ($file, $data) = @_;
  my $done = 0;
  while ($done < length $data) {
    my $n = syswrite $file, $data, length($data) - $done, $done;
    if (defined $n) { $done += $n } elsif ($! != EINTR) { return }
  }
  return 1;
}

sub set_times {
  my ($file, $micros) = @_;
  my $now = time;
  return $fine ? Time::HiRes::utime($now, $micros / 1e6, $file) : utime $now, int($micros / 1e6), $file;
}

# put a new file in place; `fill` writes it and gives mode and time
sub put_file {
  my ($stack, $path, $fill) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  my $temporary = temporary();
  ($unfinished, $unfinished_in) = ($temporary, $stack->[-1][1]);
  my $file;
  unless (sysopen $file, $temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600) { undef $unfinished; return }
  my ($bytes, $permissions, $micros) = $fill->($file);
  my $good = defined $bytes;
  $good &&= chmod $permissions, $file;
  $good &&= set_times($file, $micros);
  my $why = $! + 0;
  # the source may be another folder: come back
  unless (enter($stack, $folder)) { $! = $why || $!; return }
  if ($good) {
    if (close $file and rename $temporary, $name) { undef $unfinished; return $bytes + 1 }
    $why = $! + 0;
  }
  unlink $temporary;
  undef $unfinished;
  $! = $why;
  return;
}

sub copy_file {
  my ($stack, $sources, $path) = @_;
  my $done;
  for (1 .. 3) {
    $done = put_file($stack, $path, sub {
      my ($target) = @_;
      my ($file, @s) = content_of($sources, $path);
      return unless $file;
      my ($bytes, $noted) = (0, 0);
      my $good = pieces(sub {
        written($target, $_[0]) or return;
        $bytes += length $_[0];
        if ($bytes - $noted >= $NOTE) { record("% $bytes", $path); flush(); $noted = $bytes }
        return 1;
      }, $file, @s);
      return $good ? ($bytes, $s[2] & 0777, micros($s[9])) : ();
    });
    last if $done or $! != EAGAIN;
  }
  return $done;
}

sub receive_file {
  my ($stack, $path, $permissions, $micros) = @_;
  my ($ended, $noted) = (0, 0);
  my $done = put_file($stack, $path, sub {
    my ($target) = @_;
    my $bytes = 0;
    while (1) {
      my $size = unpack "N", taken(4);
      if ($size == 0) { $ended = 1; return ($bytes, oct $permissions, $micros) }
      if ($size == $BAD) { $ended = 1; $! = EAGAIN; return }
      my $data = taken($size);
      written($target, $data) or return;
      $bytes += $size;
      if ($bytes - $noted >= $NOTE) { record("% $bytes", $path); flush(); $noted = $bytes }
    }
  });
  my $why = $! + 0;
  # what comes still of a file that could not be written
  until ($ended) {
    my $size = unpack "N", taken(4);
    if ($size == 0 or $size == $BAD) { $ended = 1 } else { taken($size) }
  }
  $! = $why;
  return $done;
}

sub removed {
  my ($name, @s) = @_;
  return unlink $name unless S_ISDIR($s[2]);
  my $below = opened($name, @s) or return;
  opendir my $here, "." or return;
  chdir $below or return;
  my $good = 1;
  my $why = 0;
  for my $entry (readdir $below) {
    next if $entry eq "." or $entry eq "..";
    my @t = lstat $entry or next;
    unless (removed($entry, @t)) { $good = 0; $why = $! + 0 }
  }
  chdir $here or exit 1;
  unless ($good) { $! = $why; return }
  return rmdir $name;
}

sub remove_entry {
  my ($stack, $path) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  my @s = lstat $name or return $! == ENOENT;
  return removed($name, @s);
}

sub remove_empty {
  my ($stack, $path) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  return 1 if rmdir $name or $! == ENOENT or $! == ENOTEMPTY or $! == EEXIST;
  return;
}

sub make_folder {
  my ($stack, $path) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  return 1 if mkdir $name, 0700;
  my $why = $! + 0;
  my @s = lstat $name;
  return 1 if @s and S_ISDIR($s[2]);
  $! = $why;
  return;
}

sub make_link {
  my ($stack, $path, $target) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  my $temporary = temporary();
  symlink $target, $temporary or return;
  return 1 if rename $temporary, $name;
  my $why = $! + 0;
  unlink $temporary;
  $! = $why;
  return;
}

# mode and time of a folder or a file, if it is what it was
sub set_attributes {
  my ($stack, $path, $permissions, $micros) = @_;
  my ($folder, $name) = parted($path);
  enter($stack, $folder) or return;
  my @s = lstat $name or return;
  my $file;
  if (S_ISDIR($s[2])) {
    $file = opened($name, @s) or return;
    # perl sets the times of the folder by its name
    chdir $file or return;
    return unless chmod oct $permissions, ".";
    my $good = set_times(".", $micros);
    chdir $stack->[-1][1];
    return $good;
  }
  sysopen $file, $name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY or return;
  my @now = stat $file;
  unless ($now[0] == $s[0] and $now[1] == $s[1]) { $! = ELOOP; return }
  return chmod(oct $permissions, $file) && set_times($file, $micros);
}

sub apply {
  my ($stack, $sources, $head, $path, $text) = @_;
  my ($verb, @numbers) = split / /, $head;
  my $done =
      $verb eq "f" ? copy_file($stack, $sources, $path)
    : $verb eq "r" ? receive_file($stack, $path, @numbers)
    : $verb eq "d" ? make_folder($stack, $path)
    : $verb eq "m" ? set_attributes($stack, $path, @numbers)
    : $verb eq "l" ? make_link($stack, $path, $text)
    : $verb eq "x" ? remove_entry($stack, $path)
    : $verb eq "k" ? remove_empty($stack, $path)
    :                exit 3;
  if ($done) { record("+ $verb " . ($done - 1), $path) } else { failed($path, $! + 0) }
}

# --- the modes

# the data of what was written; false if this system cannot say
sub synced {
  my ($top) = @_;
  chdir $top or return;
  open my $null, "<", "/dev/null" or return;
  my $child = fork;
  return unless defined $child;
  unless ($child) {
    open STDIN, "<&", $null;
    open STDOUT, ">", "/dev/null";
    open STDERR, ">", "/dev/null";
    alarm 300;
    exec "sync", "-f", "." or POSIX::_exit(127);
  }
  waitpid $child, 0;
  return $? == 0;
}

my $top = opened_root($root, $mode eq "apply");
unless ($top) {
  my $code = $! + 0;
  # one that does not exist yet will be in the folder that is the current one by now
  my $around = "";
  if ($mode eq "list" and $code == ENOENT and opendir my $here, ".") { $around = " " . identities($here) }
  local $! = $code;
  record("! $code$around", "", "$!");
  flush();
  exit 0;
}
if ($mode eq "list") {
  ($checksum, $sweep) = @rest;
  my @s = attributes($top, 1);
  record(sprintf("d %o %d %s %d -", $s[2] & 07777, $s[7], micros($s[9]), $s[4]), "", identities($top));
  walk($top, "");
} else {
  my $stack = [["", $top]];
  my $sources;
  if ($mode eq "apply" and length $rest[0]) {
    my $from = opened_root($rest[0]);
    unless ($from) { failed("", $! + 0); flush(); exit 0 }
    $sources = [["", $from]];
  }
  record("d", "");
  flush();
  while (my ($head, $path, $text) = fields()) {
    if ($mode eq "send") { send_file($stack, $path) } else { apply($stack, $sources, $head, $path, $text) }
  }
}
flush();
synced($top) if $mode eq "apply" and $count;
record("z", "");
flush();
exit 0;
