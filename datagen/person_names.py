"""Names by which prompts ask for real people. Called by prompt_rules.py.

Written by hand and far from complete: what is missing, a deployment adds to its blocklist.
"""

from __future__ import annotations

# Alive, or within living memory. Those whose one name is enough stand with that name alone.
_PUBLIC_FIGURES = """
Donald Trump, Joe Biden, Barack Obama, Obama, Michelle Obama, Kamala Harris, Hillary Clinton,
Bill Clinton, George Bush, George W Bush, Jimmy Carter, Ronald Reagan, Richard Nixon, Mike Pence,
JD Vance, Bernie Sanders, Nancy Pelosi, Mitch McConnell, Ted Cruz, Marco Rubio, Ron DeSantis,
Alexandria Ocasio-Cortez, Elizabeth Warren, Gavin Newsom, Nikki Haley, Melania Trump, Ivanka Trump,
John F Kennedy, Robert F Kennedy, Henry Kissinger, Condoleezza Rice, Colin Powell, John McCain,
Vladimir Putin, Putin, Volodymyr Zelensky, Volodymyr Zelenskyy, Zelensky, Dmitry Medvedev,
Alexei Navalny, Mikhail Gorbachev, Boris Yeltsin, Alexander Lukashenko, Xi Jinping, Hu Jintao,
Deng Xiaoping, Mao Zedong, Kim Jong Un, Kim Jong Il, Narendra Modi, Rahul Gandhi, Indira Gandhi,
Mahatma Gandhi, Imran Khan, Benazir Bhutto, Shinzo Abe, Fumio Kishida, Yoon Suk Yeol,
Tsai Ing-wen, Aung San Suu Kyi, Ferdinand Marcos, Rodrigo Duterte, Joko Widodo, Lee Kuan Yew,
Angela Merkel, Olaf Scholz, Friedrich Merz, Markus Soeder, Annalena Baerbock,
Robert Habeck, Christian Lindner, Alice Weidel, Helmut Kohl, Gerhard Schroeder, Willy Brandt,
Frank-Walter Steinmeier, Emmanuel Macron, Marine Le Pen, Nicolas Sarkozy, Francois Hollande,
Jacques Chirac, Charles de Gaulle, Francois Mitterrand, Boris Johnson, Rishi Sunak, Keir Starmer,
Liz Truss, Theresa May, David Cameron, Tony Blair, Gordon Brown, Margaret Thatcher, Nigel Farage,
Jeremy Corbyn, Winston Churchill, Queen Elizabeth, Elizabeth II, King Charles III, Prince Charles,
Prince William, Prince Harry, Kate Middleton, Meghan Markle, Princess Diana, Lady Diana,
Giorgia Meloni, Silvio Berlusconi, Matteo Salvini, Mario Draghi, Pedro Sanchez, Mariano Rajoy,
King Felipe VI, Viktor Orban, Donald Tusk, Andrzej Duda, Lech Walesa, Vaclav Havel,
Recep Tayyip Erdogan, Erdogan, Ursula von der Leyen, Christine Lagarde, Jens Stoltenberg,
Greta Thunberg, Mark Rutte, Geert Wilders, Sanna Marin, Jacinda Ardern, Justin Trudeau,
Pierre Poilievre, Scott Morrison, Anthony Albanese, Benjamin Netanyahu, Netanyahu, Ariel Sharon,
Yasser Arafat, Mahmoud Abbas, Bashar al-Assad, Saddam Hussein, Osama bin Laden, Ali Khamenei,
Mohammed bin Salman, Muammar Gaddafi, Abdel Fattah el-Sisi, Hosni Mubarak, Nelson Mandela,
Cyril Ramaphosa, Jacob Zuma, Paul Kagame, Robert Mugabe, Kofi Annan, Desmond Tutu,
Lula da Silva, Jair Bolsonaro, Bolsonaro, Dilma Rousseff, Javier Milei, Cristina Kirchner,
Eva Peron, Fidel Castro, Che Guevara, Hugo Chavez, Nicolas Maduro, Evo Morales, Gabriel Boric,
Andres Manuel Lopez Obrador, Claudia Sheinbaum, Gustavo Petro, Antonio Guterres, Ban Ki-moon,
Pope Francis, Pope Benedict, Pope John Paul, Dalai Lama, Mother Teresa, Martin Luther King,
Malcolm X, Rosa Parks, Adolf Hitler, Hitler, Joseph Stalin, Benito Mussolini, Heinrich Himmler,
Francisco Franco, Julian Assange, Edward Snowden, Malala Yousafzai,
Elon Musk, Jeff Bezos, Bill Gates, Melinda Gates, Mark Zuckerberg, Zuckerberg, Steve Jobs,
Tim Cook, Sundar Pichai, Satya Nadella, Sam Altman, Jensen Huang, Larry Page, Sergey Brin,
Larry Ellison, Jack Ma, Warren Buffett, George Soros, Rupert Murdoch, Richard Branson,
Peter Thiel, Sheryl Sandberg, Sam Bankman-Fried, Elizabeth Holmes, Jeffrey Epstein,
Ghislaine Maxwell, Harvey Weinstein, Oprah Winfrey, Oprah, Ellen DeGeneres, Jimmy Fallon,
Jimmy Kimmel, Stephen Colbert, Trevor Noah, Conan O'Brien, David Letterman, Joe Rogan,
Tucker Carlson, Alex Jones, Andrew Tate, Jordan Peterson, Gordon Ramsay, Jamie Oliver,
David Attenborough, Kim Kardashian, Khloe Kardashian, Kourtney Kardashian, Kris Jenner,
Kylie Jenner, Kendall Jenner, Caitlyn Jenner, Paris Hilton, Nicole Richie, Heidi Klum,
Gisele Bundchen, Naomi Campbell, Kate Moss, Cindy Crawford, Claudia Schiffer, Gigi Hadid,
Bella Hadid, Cara Delevingne, Emily Ratajkowski, MrBeast, PewDiePie,
Taylor Swift, Beyonce, Beyonce Knowles, Rihanna, Lady Gaga, Katy Perry, Ariana Grande,
Billie Eilish, Selena Gomez, Miley Cyrus, Britney Spears, Christina Aguilera, Jennifer Lopez,
Shakira, Dua Lipa, Olivia Rodrigo, Sabrina Carpenter, Nicki Minaj, Cardi B, Doja Cat, Lana Del Rey,
Adele Adkins, Amy Winehouse, Whitney Houston, Mariah Carey, Celine Dion, Tina Turner,
Aretha Franklin, Dolly Parton, Madonna Ciccone, Justin Bieber, Justin Timberlake, Ed Sheeran,
Harry Styles, Zayn Malik, Shawn Mendes, Bruno Mars, Kanye West, Jay-Z, Eminem, Kendrick Lamar,
Snoop Dogg, Travis Scott, Post Malone, Lil Nas X, Tupac Shakur, Michael Jackson, Janet Jackson,
Elvis Presley, Freddie Mercury, David Bowie, Elton John, George Michael, Paul McCartney,
John Lennon, George Harrison, Ringo Starr, Mick Jagger, Keith Richards, Bob Dylan, Bob Marley,
Jimi Hendrix, Kurt Cobain, Bruce Springsteen, Jon Bon Jovi, Ozzy Osbourne, Chris Martin,
Luciano Pavarotti, Maria Callas, Andrea Bocelli, Yoko Ono, Jungkook, Kim Taehyung, Park Jimin,
Maluma, Enrique Iglesias, Helene Fischer, Herbert Groenemeyer, Edith Piaf,
Tom Cruise, Brad Pitt, Angelina Jolie, Jennifer Aniston, Leonardo DiCaprio, DiCaprio,
Kate Winslet, Johnny Depp, Amber Heard, Scarlett Johansson, Natalie Portman, Emma Watson,
Daniel Radcliffe, Rupert Grint, Emma Stone, Jennifer Lawrence, Margot Robbie, Gal Gadot,
Zendaya, Tom Holland, Timothee Chalamet, Robert Downey, Chris Evans, Chris Hemsworth, Chris Pratt,
Mark Ruffalo, Benedict Cumberbatch, Tom Hiddleston, Ryan Reynolds, Ryan Gosling, Blake Lively,
Hugh Jackman, Keanu Reeves, Will Smith, Jada Pinkett Smith, Denzel Washington, Samuel L Jackson,
Morgan Freeman, Dwayne Johnson, Vin Diesel, Jason Momoa, Jason Statham, Henry Cavill, Ben Affleck,
Matt Damon, George Clooney, Julia Roberts, Sandra Bullock, Meryl Streep, Anne Hathaway,
Nicole Kidman, Cate Blanchett, Charlize Theron, Halle Berry, Megan Fox, Jessica Alba,
Cameron Diaz, Drew Barrymore, Reese Witherspoon, Penelope Cruz, Salma Hayek, Antonio Banderas,
Javier Bardem, Monica Bellucci, Sophia Loren, Marilyn Monroe, Audrey Hepburn, Grace Kelly,
Elizabeth Taylor, James Dean, Marlon Brando, Al Pacino, Robert De Niro, Jack Nicholson,
Harrison Ford, Sylvester Stallone, Arnold Schwarzenegger, Bruce Willis, Mel Gibson, Tom Hanks,
Robin Williams, Jim Carrey, Adam Sandler, Eddie Murphy, Chris Rock, Jackie Chan, Bruce Lee, Jet Li,
Shah Rukh Khan, Amitabh Bachchan, Deepika Padukone, Priyanka Chopra, Aishwarya Rai, Salman Khan,
Millie Bobby Brown, Jenna Ortega, Sydney Sweeney, Florence Pugh, Anya Taylor-Joy, Pedro Pascal,
Steven Spielberg, Quentin Tarantino, Martin Scorsese, Christopher Nolan, James Cameron,
Woody Allen, Roman Polanski, Alfred Hitchcock, Til Schweiger, Diane Kruger, Omar Sy,
Gerard Depardieu, Brigitte Bardot, Marion Cotillard, Lea Seydoux, Daniel Craig, Sean Connery,
Pierce Brosnan, Idris Elba, Judi Dench, Maggie Smith, Ian McKellen, Rowan Atkinson,
Cristiano Ronaldo, Lionel Messi, Neymar, Kylian Mbappe, Mbappe, Erling Haaland, Zlatan Ibrahimovic,
David Beckham, Victoria Beckham, Wayne Rooney, Harry Kane, Mohamed Salah, Diego Maradona,
Maradona, Ronaldinho, Zinedine Zidane, Zidane, Franz Beckenbauer, Manuel Neuer,
Thomas Mueller, Toni Kroos, Luka Modric, Robert Lewandowski, Megan Rapinoe, Pep Guardiola,
Jose Mourinho, Juergen Klopp, Jurgen Klopp, LeBron James, Michael Jordan, Kobe Bryant,
Shaquille O'Neal, Stephen Curry, Magic Johnson, Dennis Rodman, Tom Brady, Patrick Mahomes,
Travis Kelce, Colin Kaepernick, O J Simpson, Mike Tyson, Muhammad Ali, Floyd Mayweather,
Conor McGregor, Ronda Rousey, Tiger Woods, Serena Williams, Venus Williams, Roger Federer,
Rafael Nadal, Novak Djokovic, Andy Murray, Naomi Osaka, Maria Sharapova, Steffi Graf, Boris Becker,
Usain Bolt, Michael Phelps, Simone Biles, Lewis Hamilton, Max Verstappen, Michael Schumacher,
Sebastian Vettel, Ayrton Senna, Fernando Alonso, Valentino Rossi, Lance Armstrong, Virat Kohli,
Sachin Tendulkar, Magnus Carlsen, Garry Kasparov, John Cena, Hulk Hogan,
Stephen Hawking, Albert Einstein, Einstein, Marie Curie, Richard Feynman, Alan Turing,
Robert Oppenheimer, Oppenheimer, Carl Sagan, Neil deGrasse Tyson, Richard Dawkins, Noam Chomsky,
Jane Goodall, Katalin Kariko, Jennifer Doudna, Anthony Fauci, Christian Drosten, Sigmund Freud,
Neil Armstrong, Buzz Aldrin, Yuri Gagarin, Frida Kahlo, Andy Warhol, Pablo Picasso, Salvador Dali,
Ai Weiwei, Banksy, Karl Lagerfeld, Coco Chanel, Anna Wintour, J K Rowling, Stephen King,
George R R Martin, Salman Rushdie, Haruki Murakami, Ernest Hemingway, Anne Frank
"""

# Left out: names that are also common words, places, months, plants, colours or trades (Rose, Mark,
# Paris, April, Iris, Amber, Dean), for prompts in title case would be refused for them.
_GIVEN_NAMES = """
Aaron Abdul Abdullah Abigail Adam Adele Adelina Adolf Adrian Adriana Adrien Agata Agnes Agnieszka
Ahmad Ahmed Aisha Alan Albert Alberto Alejandra Alejandro Aleksander Aleksandra Alessandra
Alessandro Alessia Alex Alexander Alexandra Alexandre Alexei Alfonso Alfred Ali Alice Alicia
Alina Aline Alison Allison Alma Amanda Amelia Amelie Amina Amir Amit Amy Ana Anastasia Anders Andre
Andrea Andreas Andrei Andrew Andrzej Andy Angela Angelina Anika Anil Anita Anja Anke Ann Anna
Annabelle Anne Anneliese Annette Annie Annika Anthony Antoine Anton Antonia Antonio Antony Arjun
Armin Arnold Arthur Arturo Astrid Aurelie Axel Ayesha Ayse Barbara Barry Bastian Beata Beatrice
Beatriz Ben Benedikt Benjamin Bernd Bernhard Bertha Bettina Betty Bianca Birgit Bjorn Boris Brad
Brandon Brenda Brian Brigitte Bruno Bryan Camila Camilla Camille Carl Carla Carlos Carmen Carol
Caroline Carolyn Carsten Catalina Catarina Catherine Cathy Cecilia Cedric Celine Chantal
Charlie Chiara Chloe Chris Christa Christiane Christina Christine Christoph Christophe Christopher
Cindy Claire Clara Clarissa Claude Claudia Claudio Claus Clement Colin Connor Cornelia Corinna
Craig Cristina Cynthia Dagmar Damian Daniel Daniela Daniele Danielle Danny Dario Dave David Debbie
Deborah Debra Deepak Denis Denise Dennis Derek Diana Diane Diego Dieter Dietmar Dietrich Dimitri
Dirk Dmitry Dominik Dominique Donald Donna Doris Dorota Dorothea Dorothy Douglas Duncan Eberhard
Ebru Eddie Edgar Edith Edmund Eduardo Edward Edwin Ekaterina Elena Eleanor Eleonora Elias Elif
Elisabeth Elise Elizabeth Elke Ella Ellen Eloise Elsa Elvira Emil Emilia Emilie Emily Emma Emmanuel
Emre Enrico Enrique Erich Erika Erik Ernst Esteban Esther Eugenia Eva Evelyn Ewa Fabian Fabio
Fabrice Fatima Fatma Federica Federico Felicia Felipe Felix Ferdinand Fernanda Fernando Filip
Filippo Fiona Francesca Francesco Francisco Francois Francoise Franz Franziska Fred Frederic
Frederick Frederik Friedrich Fritz Gabriel Gabriela Gabriele Gabriella Gareth Gary Gemma Genevieve
Geoffrey Georg George Georges Gerald Gerard Gerhard Gertrud Gianluca Gina Giovanna Giovanni Gisela
Giulia Giuseppe Gonzalo Gordon Graham Greg Gregory Greta Guido Guillaume Guillermo Gunter Gustav
Hanna Hannah Hans Harald Harold Harry Hassan Hector Heidi Heike Heiko Heiner Heinrich
Heinz Helen Helena Helene Helga Helmut Henri Henrietta Henrik Henry Herbert Hermann Hilda
Hildegard Hiroshi Holger Horst Howard Hubert Hugo Hussein Ian Ibrahim Igor Ilona Ilse Imran Ines
Inge Ingeborg Ingo Ingrid Irena Irene Irina Irma Isabel Isabella Isabelle Ismail Ivan Ivana Jacob
Jacqueline Jacques Jaime Jakob Jakub James Jamie Jan Jana Jane Janet Janina Janine Jason Javier
Jeanette Jeanne Jeff Jeffrey Jennifer Jens Jeremy Jerome Jerzy Jessica Jill Jim Jimmy Joachim
Joana Joanna Joanne Joaquin Jochen Joe Joel Johan Johann Johanna Johannes John Johnny Jon Jonas
Jonathan Jorge Jose Josef Josefina Joseph Josephine Joshua Juan Juana Judith Judy Juergen Jurgen
Julia Julian Juliana Julie Juliette Julius Jutta Kai Karen Karim Karin Karina Karl Karla Karolina
Karsten Katarina Kate Katharina Katherine Kathleen Kathrin Kathryn Kathy Katia Katja Katrin
Katarzyna Kavita Keith Kenneth Kenji Kerstin Kevin Khalid Kim Kirsten Klara Klaus Konrad
Konstantin Kristin Kristina Krzysztof Kurt Kyle Lara Larissa Lars Laura Laurent Laurence Lauren Lea
Leila Lena Leon Leonard Leonardo Leonie Leonora Leopold Leslie Leticia Lidia Liam Liliana Linda Lisa
Logan Lorenzo Lothar Louis Louisa Louise Luc Luca Lucas Lucia Luciana Lucie Ludwig Luigi Luis Luisa
Lukas Lydia Lynn Madeleine Magda Magdalena Maike Malgorzata Manfred Manuel Manuela Marc Marcel
Marcelo Marcin Marco Marcos Marcus Margaret Margarita Margit Margot Marguerite Maria Mariam Marian
Mariana Marianne Marie Mariana Marina Mario Marion Marisa Marjorie Markus Marlene Marta Martha
Martin Martina Mary Maryam Massimo Mateo Mateusz Mathias Mathieu Mathilde Matteo Matthew Matthias
Maurice Mauro Maximilian Megan Mehmet Mei Melanie Melissa Merle Mia Michael Michaela
Michal Michel Michele Michelle Miguel Mikhail Mila Milan Miranda Miriam Mohamed Mohammad Mohammed
Moira Monica Monika Monique Muhammad Murat Mustafa Nadia Nadine Nancy Naomi Natalia Natalie Natasha
Nathalie Nathan Nathaniel Neha Neil Nelson Nicholas Nick Nicola Nicolas Nicole Niklas Nils Nina Noah
Nora Norbert Norma Nuria Oksana Olaf Olga Oliver Olivia Olivier Omar Oscar Oskar Osama Otto Pablo
Pamela Paola Paolo Pascal Patricia Patrick Patrizia Paul Paula Paulina Pauline Paulo Pavel Pawel
Pedro Peggy Penelope Peter Phil Philip Philipp Philippe Phillip Pierre Pilar Piotr Priya
Rachel Rafael Rainer Raj Rajesh Ralf Ralph Ramona Ramon Raquel Rashid Raul Rebecca Reinhard
Renata Renate Rene Ricardo Riccardo Richard Rita Robert Roberta Roberto Rodrigo Roger Roland
Rolf Roman Ronald Rosalie Rosemarie Roxana Roxanne Ruben Rudolf Rupert Ruth Ryan
Sabine Sabrina Sally Salvador Salvatore Sam Samantha Samira Samuel Sandra Sanjay Sara Sarah Sasha
Saskia Scott Sean Sebastian Serge Sergei Sergey Sergio Sharon Sheila Shirley Siegfried Sigrid
Silke Silvia Simon Simona Simone Sofia Sonia Sonja Sophia Sophie Stefan Stefania Stefanie Steffen
Stephan Stephanie Stephen Steve Steven Stuart Sunil Susan Susanna Susanne Suzanne Svenja Svetlana
Sven Sylvia Sylvie Tamara Tania Tanja Tanya Tatiana Tatjana Ted Teresa Theodor Theodore Theresa
Therese Thomas Thorsten Tim Timothy Tina Tobias Tom Tomas Tomasz Toni Tony Torsten Tracy Udo Ulla
Ulrich Ulrike Ursula Ute Uwe Valentina Valeria Valerie Vanessa Vera Verena Veronica Veronika
Vicky Victor Viktor Viktoria Vincent Vincenzo Vivian Viviana Vladimir Volker Walter
Waltraud Wanda Wendy Werner Wilhelm William Wilma Wojciech Wolfgang Xavier Yannick Yasmin Yolanda
Yuki Yuri Yusuf Yves Yvonne Zeynep Zofia Zoe
"""

PUBLIC_FIGURES: tuple[str, ...] = tuple(
    name.strip() for name in _PUBLIC_FIGURES.replace("\n", " ").split(",")
)
GIVEN_NAMES: frozenset[str] = frozenset(_GIVEN_NAMES.casefold().split())
